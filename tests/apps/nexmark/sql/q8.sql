-- Monitor new users: who registered and opened an auction within the same ten seconds.
SELECT p.id, p.name, p.window_start AS "start"
FROM (
    SELECT id, name, time_bucket(INTERVAL '10 seconds', time) AS window_start
    FROM person
    GROUP BY id, name, window_start
) p
JOIN (
    SELECT seller, time_bucket(INTERVAL '10 seconds', time) AS window_start
    FROM auction
    GROUP BY seller, window_start
) a ON p.id = a.seller AND p.window_start = a.window_start
