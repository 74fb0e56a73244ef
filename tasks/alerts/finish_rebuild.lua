-- Ends a rebuild: marks the states as present, under a generation of their own, counts the open alerts, and puts the
-- changes that were not published into an empty outbox; one with entries delivers them itself.
--
-- KEYS: the rebuild's lock, the marker that the states are there, their generation, the outbox stream, the hash of
--       open alerts by user.
-- ARGV: the token of the lock, the server's identity when the rebuild began, users and how many alerts they have
--       open, in turn and packed, then entries of the outbox.
-- Returns the generation, or '' when nothing was written.
local run, whole = identity()
if redis.call('GET', KEYS[1]) ~= ARGV[1] or whole ~= ARGV[2] then
    return ''
end
if redis.call('XLEN', KEYS[4]) == 0 then
    for index = 4, #ARGV do
        redis.call('XADD', KEYS[4], '*', 'entry', ARGV[index])
    end
end
redis.call('DEL', KEYS[5])
local open = cmsgpack.unpack(ARGV[3])
for index = 1, #open, 2 do
    redis.call('HSET', KEYS[5], open[index], open[index + 1])
end
redis.call('SET', KEYS[2], run)
local generation = whole .. '/' .. ARGV[1] .. COUNTED
redis.call('SET', KEYS[3], generation)
return generation
