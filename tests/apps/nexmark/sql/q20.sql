-- Expand bid with auction: bids in category 10, each with all that is known of its auction.
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.time AS bid_time, b.extra AS bid_extra,
       a.item_name, a.description, a.initial_bid, a.reserve, a.time AS auction_time, a.expires,
       a.seller, a.category, a.extra AS auction_extra
FROM bid b
JOIN auction a ON b.auction = a.id
WHERE a.category = 10
