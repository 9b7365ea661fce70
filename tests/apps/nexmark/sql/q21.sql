-- Add channel id: by the channel's name, or out of the URL. Where it is in neither, the bid is left out.
SELECT auction, bidder, price, channel, channel_id
FROM (
    SELECT *, CASE WHEN lower(channel) = 'apple' THEN '0'
                   WHEN lower(channel) = 'google' THEN '1'
                   WHEN lower(channel) = 'facebook' THEN '2'
                   WHEN lower(channel) = 'baidu' THEN '3'
                   ELSE nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')
              END AS channel_id
    FROM bid
)
WHERE channel_id IS NOT NULL
