-- Begins a rebuild of the states: from here on no worker commits a change. An outbox from another run or from before
-- a failover is old and is dropped in the same step, so that it cannot be mistaken for a current one.
--
-- KEYS: the rebuild's lock, the marker that the states are there, their generation, then the outbox's keys.
-- ARGV: the token of the lock.
-- Returns the identity of the server, or '' when another worker has the lock.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return ''
end
if is_old_copy(KEYS[2], KEYS[3]) then
    redis.call('UNLINK', unpack(KEYS, 4))
end
redis.call('DEL', KEYS[2], KEYS[3])
local _, whole = identity()
return whole
