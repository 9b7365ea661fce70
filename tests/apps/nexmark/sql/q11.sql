-- User sessions: how many bids each person made before being silent for more than ten seconds. A session ends
-- ten seconds after its last bid. DuckDB has no session windows, so each bid counts those that began one.
WITH began AS (
    SELECT bidder, time, coalesce(time - lag(time) OVER mine > INTERVAL '10 seconds', true) AS is_first
    FROM bid
    WINDOW mine AS (PARTITION BY bidder ORDER BY time)
),
numbered AS (
    SELECT bidder, time, count(*) FILTER (WHERE is_first) OVER (PARTITION BY bidder ORDER BY time) AS number
    FROM began
)
SELECT bidder, count(*) AS bid_count, min(time) AS "start", max(time) + INTERVAL '10 seconds' AS "end"
FROM numbered
GROUP BY bidder, number
