-- Average price for a category: of the winning bids of its auctions. Not cut down to a whole number.
SELECT q.category, avg(q.final) AS average
FROM (
    SELECT a.category, max(b.price) AS final
    FROM auction a
    JOIN bid b ON b.auction = a.id AND b.time BETWEEN a.time AND a.expires
    GROUP BY a.id, a.category
) q
GROUP BY q.category
