-- Counts a failure and, with enough of them in a row, begins a rest, in one step: a process that saw the count and
-- no rest would take the rest for over, and probe at once.
--
-- KEYS: the breaker's hash, the key that exists during a rest, the key that exists during a probe.
-- ARGV: how long the rest is, how many failures open the breaker, how long they are remembered; in seconds.
-- Returns how many failures there are in a row.
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('HSET', KEYS[1], 'seconds', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if failures >= tonumber(ARGV[2]) then
    redis.call('SET', KEYS[2], 1, 'EX', ARGV[1])
end
redis.call('DEL', KEYS[3])
return failures
