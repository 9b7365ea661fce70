-- Pass through: bids as they are, with all of their columns (the published query leaves out two).
SELECT auction, bidder, price, channel, url, time, extra
FROM bid
