-- Notes that a group has delivered entries of the outbox. Those that both groups have delivered leave the stream and the
-- counts of bytes.
--
-- KEYS: the stream, the hash of bytes by user, the hashes of entries that were added and written, by user, and the
--       hashes of users with a change that fails and with a notice that is refused.
-- ARGV: the group, the other group, whether the entries are in the tables now ('1'), then the ids of the entries.
local function parse(id)
    local milliseconds, number = string.match(id, '(%d+)-(%d+)')
    return tonumber(milliseconds), tonumber(number)
end

local read_milliseconds, read_number = -1, -1
if redis.call('EXISTS', KEYS[1]) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        local fields = {}
        for index = 1, #info, 2 do
            fields[info[index]] = info[index + 1]
        end
        if fields['name'] == ARGV[2] then
            read_milliseconds, read_number = parse(fields['last-delivered-id'])
        end
    end
end

local function other_has_delivered(id)
    local milliseconds, number = parse(id)
    if milliseconds > read_milliseconds or (milliseconds == read_milliseconds and number > read_number) then
        return false
    end
    return #redis.call('XPENDING', KEYS[1], ARGV[2], id, id, 1) == 0
end

for index = 4, #ARGV do
    local id = ARGV[index]
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    local fields = {}
    if entry then
        for at = 1, #entry[2], 2 do
            fields[entry[2][at]] = entry[2][at + 1]
        end
    end
    local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], id)
    -- An entry of an older version has no user, and was not counted.
    if acknowledged == 1 and ARGV[3] == '1' and fields['user'] then
        redis.call('HINCRBY', KEYS[4], fields['user'], 1)
    end
    if entry and other_has_delivered(id) then
        redis.call('XDEL', KEYS[1], id)
        if fields['user'] then
            local size = -#fields['entry']
            redis.call('HINCRBY', KEYS[2], '', size)
            if redis.call('HINCRBY', KEYS[2], fields['user'], size) <= 0 then
                redis.call('HDEL', KEYS[2], fields['user'])
            end
        end
    end
end
-- An empty stream has no counts, whatever happened to it.
if redis.call('XLEN', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
end
