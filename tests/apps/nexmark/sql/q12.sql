-- Processing time windows: how many bids each person made in each ten seconds of the worker's clock. A batch has
-- no such clock: the judged run hands out each ten seconds of events when its clock has come to them.
SELECT bidder, count(*) AS bid_count, time_bucket(INTERVAL '10 seconds', time) AS "start",
       "start" + INTERVAL '10 seconds' AS "end"
FROM bid
GROUP BY bidder, "start"
