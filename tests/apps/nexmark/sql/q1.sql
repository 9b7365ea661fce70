-- Currency conversion: prices in euros. By binary floating point; the published query has decimals.
SELECT auction, bidder, 0.908::DOUBLE * price AS price, time, extra
FROM bid
