-- Hot items: the auctions with the most bids in the last ten seconds, every two. With the end of the window.
WITH counted AS (
    SELECT auction, count(*) AS num, window_end
    FROM (
        SELECT auction, time_bucket(INTERVAL '2 seconds', time) + later * INTERVAL '2 seconds' AS window_end
        FROM bid, range(1, 6) AS hops(later)
    )
    GROUP BY auction, window_end
)
SELECT c.auction, c.num, c.window_end AS "end"
FROM counted c
JOIN (SELECT max(num) AS most, window_end FROM counted GROUP BY window_end) m
  ON c.window_end = m.window_end AND c.num >= m.most
