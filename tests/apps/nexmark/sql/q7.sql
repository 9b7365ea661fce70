-- Highest bid: of each ten seconds, all that reach it. The published query looks for them from the start of the
-- window to its end, inclusive; here a bid in the first millisecond of the next window belongs to that alone.
SELECT b.auction, b.bidder, b.price, b.time, b.extra
FROM bid b
JOIN (
    SELECT max(price) AS most, time_bucket(INTERVAL '10 seconds', time) AS window_start
    FROM bid
    GROUP BY window_start
) m ON b.price = m.most
   AND b.time >= m.window_start AND b.time < m.window_start + INTERVAL '10 seconds'
