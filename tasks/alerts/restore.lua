-- Writes states of a rebuild, unless another worker has the lock or the server has lost its memory again.
--
-- KEYS: the rebuild's lock, then the states.
-- ARGV: the token of the lock, the server's identity when the rebuild began, then the states' bytes (empty: none).
-- Returns 1, or 0 when nothing was written.
local _, whole = identity()
if redis.call('GET', KEYS[1]) ~= ARGV[1] or whole ~= ARGV[2] then
    return 0
end
for index = 2, #KEYS do
    if ARGV[index + 1] == '' then
        redis.call('UNLINK', KEYS[index])
    else
        redis.call('SET', KEYS[index], ARGV[index + 1])
    end
end
return 1
