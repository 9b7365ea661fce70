-- Top ten: the highest bids of each auction, in order; of equal ones the first is ahead.
SELECT auction, bidder, price, channel, url, time, extra, rank_number
FROM (
    SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, time ASC) AS rank_number
    FROM bid
)
WHERE rank_number <= 10
