-- Winning bids: the highest of those made while an auction was open; of equal ones, the first.
SELECT id, item_name, description, initial_bid, reserve, time, expires, seller, category, extra,
       auction, bidder, price, bid_time, bid_extra
FROM (
    SELECT a.*, b.auction, b.bidder, b.price, b.time AS bid_time, b.extra AS bid_extra,
           row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.time ASC) AS place
    FROM auction a
    JOIN bid b ON b.auction = a.id AND b.time BETWEEN a.time AND a.expires
)
WHERE place <= 1
