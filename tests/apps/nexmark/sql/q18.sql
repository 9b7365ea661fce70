-- Last bid: of each person in each auction.
SELECT auction, bidder, price, channel, url, time, extra
FROM (
    SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY time DESC) AS place
    FROM bid
)
WHERE place <= 1
