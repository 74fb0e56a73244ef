-- Writes the states that changed and appends what there is to tell, all of it or nothing.
--
-- KEYS: the marker that the states are there, their generation, the version of the rules, the outbox stream, then
--       the states.
-- ARGV: the generation that they were read from, the version of the rules by which they were decided (empty: by
--       none), then for each state: the bytes that it had when it was read, the bytes that it gets (empty: no
--       state), and its outbox entries (empty: nothing to tell), packed with their user.
-- Returns 1, or 0 when another writer was there first, -1 when the states are lost, -2 when the rules are others.
if generation_in(KEYS[1], KEYS[2]) ~= ARGV[1] then
    return -1
end
if ARGV[2] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return -2
end
for index = 5, #KEYS do
    local before = redis.call('GET', KEYS[index]) or ''
    if before ~= ARGV[3 * (index - 5) + 3] then
        return 0
    end
end
for index = 5, #KEYS do
    local after, entry = ARGV[3 * (index - 5) + 4], ARGV[3 * (index - 5) + 5]
    if after == '' then
        redis.call('DEL', KEYS[index])
    else
        redis.call('SET', KEYS[index], after)
    end
    if entry ~= '' then
        local entries = cmsgpack.unpack(entry)
        local user, size = entries[1], 0
        for part = 2, #entries do
            redis.call('XADD', KEYS[4], '*', 'user', user, 'entry', entries[part])
            size = size + #entries[part]
        end
        -- Counted by user, and all together under no name; `acknowledge.lua` counts down.
        redis.call('HINCRBY', KEYS[4] .. ':bytes', user, size)
        redis.call('HINCRBY', KEYS[4] .. ':bytes', '', size)
        redis.call('HINCRBY', KEYS[4] .. ':added', user, #entries - 1)
    end
end
return 1
