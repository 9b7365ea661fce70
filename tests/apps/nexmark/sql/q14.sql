-- Calculation: expensive bids, with the time of day in words and how often there is a "c" in their text.
SELECT auction, bidder, 0.908::DOUBLE * price AS price,
       CASE WHEN hour(time) >= 8 AND hour(time) <= 18 THEN 'dayTime'
            WHEN hour(time) <= 6 OR hour(time) >= 20 THEN 'nightTime'
            ELSE 'otherTime'
       END AS bid_time_type,
       time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid
WHERE 0.908::DOUBLE * price > 1000000 AND 0.908::DOUBLE * price < 50000000
