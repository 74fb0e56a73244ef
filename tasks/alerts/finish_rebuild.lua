-- Ends a rebuild: marks the states as there, under a generation of their own, and puts into the outbox what users
-- have not heard. What is still in the outbox is told from there.
--
-- KEYS: the rebuild's lock, the marker that the states are there, their generation, the outbox stream.
-- ARGV: the token of the lock, the server's identity when the rebuild began, then entries of the outbox.
-- Returns the generation, or '' when nothing was written.
local run, whole = identity()
if redis.call('GET', KEYS[1]) ~= ARGV[1] or whole ~= ARGV[2] then
    return ''
end
if redis.call('XLEN', KEYS[4]) == 0 then
    for index = 3, #ARGV do
        redis.call('XADD', KEYS[4], '*', 'entry', ARGV[index])
    end
end
redis.call('SET', KEYS[2], run)
local generation = whole .. '/' .. ARGV[1]
redis.call('SET', KEYS[3], generation)
return generation
