-- Ends a batch: gives its lease up, tells its bridge and counts its messages, if the lease is still there.
--
-- A lease that is gone says that the batch was given up, or that Redis lost what the batch had in it, the changes
-- of alerts among it: then the batch is sent again, and this run of it counts for nothing.
--
-- KEYS: the lease, the bridge's list, the counters.
-- ARGV: what to tell, for how many seconds the list is kept, then pairs of a counter's name and an amount.
-- Returns 1, or 0 without a lease.
if redis.call('DEL', KEYS[1]) == 0 then
    return 0
end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
for index = 3, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[3], ARGV[index], ARGV[index + 1])
end
return 1
