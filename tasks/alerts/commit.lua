-- Writes the states that changed and appends what there is to tell, all of it or nothing.
--
-- KEYS: the marker that the states are there, the outbox stream, then the states.
-- ARGV: what the marker must hold, then for each state: the bytes that it had when it was read, the bytes that
--       it gets (empty: no state), and its outbox entry (empty: nothing to tell).
-- Returns 1, or 0 when another writer was there first, or -1 when the states are lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return -1
end
for index = 3, #KEYS do
    local before = redis.call('GET', KEYS[index]) or ''
    if before ~= ARGV[3 * (index - 3) + 2] then
        return 0
    end
end
for index = 3, #KEYS do
    local after, entry = ARGV[3 * (index - 3) + 3], ARGV[3 * (index - 3) + 4]
    if after == '' then
        redis.call('DEL', KEYS[index])
    else
        redis.call('SET', KEYS[index], after)
    end
    if entry ~= '' then
        redis.call('XADD', KEYS[2], '*', 'entry', entry)
    end
end
return 1
