-- Ends a batch: gives its lease up, tells its bridge, counts its messages and removes its blobs, if the lease is
-- still there.
--
-- A lease that is gone says that the batch was given up, or that Redis lost what the batch had in it, the changes
-- of alerts among it: then the batch is sent again, and this run of it counts for nothing.
--
-- KEYS: the lease, the bridge's list, the counters, then the blobs.
-- ARGV: what to tell, for how many seconds the list is kept, the age of the oldest message in milliseconds,
-- then pairs of a counter's name and an amount.
-- Returns 1, or 0 without a lease.
if redis.call('DEL', KEYS[1]) == 0 then
    return 0
end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[3], 'latency_ms_last', ARGV[3])
for index = 4, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[3], ARGV[index], ARGV[index + 1])
end
redis.call('UNLINK', unpack(KEYS, 4))
return 1
