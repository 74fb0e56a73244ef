-- Ends a batch: gives its lease up, reports to its bridge, counts its messages and removes its blobs, if the lease
-- still exists and Redis still has the memory in which the batch's alerts were judged.
--
-- A missing lease means that the batch was given up, or that Redis was flushed. An old copy of Redis' memory, or a
-- replica that has become the primary, may have the lease but not the changes of alerts: then the states have
-- another generation. In either case the batch is sent again, and this run of it does not count.
--
-- The first batch of an empty Redis notes when it was counted (seconds of the epoch), so that nobody takes the
-- counters for all there ever was.
--
-- It also moves the activity of the devices to the stream of the registry. If nobody reads that any more, it is
-- bounded, and the marker says that some is missing.
--
-- KEYS: the lease, the bridge's list, the counters, the marker that the states are there, their generation, the
-- stream of activity, its marker, then the activity of each part, then the other blobs.
-- ARGV: the generation that the alerts were judged in (empty: there was nothing to judge), the report, for how many
-- seconds the list is kept, the age of the oldest message in milliseconds, the number of parts, then pairs of a
-- counter's name and an amount.
-- Returns 1, or 0 without a lease, or -1 in another generation.
local MOST_ACTIVITY_BYTES = 64 * 1024 * 1024

if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
if ARGV[1] ~= '' and generation_in(KEYS[4], KEYS[5]) ~= ARGV[1] then
    return -1
end
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
if redis.call('HEXISTS', KEYS[3], 'received') == 0 then
    redis.call('HSET', KEYS[3], 'since', redis.call('TIME')[1])
end
redis.call('HSET', KEYS[3], 'latency_ms_last', ARGV[4])
for index = 6, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[3], ARGV[index], ARGV[index + 1])
end
for index = 8, 7 + ARGV[5] do
    local activity = redis.call('GET', KEYS[index])
    if activity and activity ~= '' then
        if (redis.call('MEMORY', 'USAGE', KEYS[6], 'SAMPLES', 0) or 0) >= MOST_ACTIVITY_BYTES then
            redis.call('SET', KEYS[7], 'full')
        else
            redis.call('XADD', KEYS[6], '*', 'part', activity)
        end
    end
end
redis.call('UNLINK', unpack(KEYS, 8))
return 1
