-- Writes the states that changed and appends their outbox entries, all of it or nothing.
--
-- KEYS: the marker that the states are there, their generation, the version of the rules, the outbox stream, the hash
--       of open alerts by user, then the states.
-- ARGV: the generation that they were read from, the version of the rules by which they were decided (empty: by
--       none), how many open alerts a user may have (0: any number), users and how many more they have open now,
--       in turn and packed, then for each state: the bytes that it had when it was read, the bytes that it gets
--       (empty: no state), and its outbox entries (empty: none), packed with their user.
-- Returns 1, or 0 when another writer committed first, -1 when the states are lost, -2 when the rules have changed,
-- -3 when a user would have too many open alerts.
if generation_in(KEYS[1], KEYS[2]) ~= ARGV[1] then
    return -1
end
if ARGV[2] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return -2
end
for index = 6, #KEYS do
    local before = redis.call('GET', KEYS[index]) or ''
    if before ~= ARGV[3 * (index - 6) + 5] then
        return 0
    end
end
local most, opened = tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4])
for index = 1, #opened, 2 do
    local more = opened[index + 1]
    if more > 0 and most > 0 and tonumber(redis.call('HGET', KEYS[5], opened[index]) or 0) + more > most then
        return -3
    end
end
for index = 1, #opened, 2 do
    if redis.call('HINCRBY', KEYS[5], opened[index], opened[index + 1]) <= 0 then
        redis.call('HDEL', KEYS[5], opened[index])
    end
end
for index = 6, #KEYS do
    local after, entry = ARGV[3 * (index - 6) + 6], ARGV[3 * (index - 6) + 7]
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
