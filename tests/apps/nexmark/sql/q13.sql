-- Bounded side input join: bids with a value from a small table.
SELECT b.auction, b.bidder, b.price, b.time, s.value
FROM bid b
JOIN side_input s ON mod(b.auction, 10000) = s.key
