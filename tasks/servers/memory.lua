-- The beginning of every script about the states: which memory of Redis they are in.
--
-- A generation is one memory: the server's run, its replication id and the rebuild that filled it. A restart gives
-- another run, a failover another run or, back to a former primary, another replication id; a flush deletes the key.
-- So whatever lost a write has also lost the generation under which it was made.

-- Suffix of a generation in which open alerts are counted: states of an earlier version of Sluice are rebuilt once.
local COUNTED = '/open'

local function identity()
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unnamed'
    local replication = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
    return run, run .. '/' .. replication
end

-- The generation of the states, or '' where they are lost. `ready` has the run alone, as older workers know it.
local function generation_in(ready, generation)
    local run, whole = identity()
    local current = redis.call('GET', generation)
    if redis.call('GET', ready) ~= run or not current or string.sub(current, 1, #whole + 1) ~= whole .. '/'
        or string.sub(current, -#COUNTED) ~= COUNTED then
        return ''
    end
    return current
end

-- Whether this is a copy of before a restart or a failover. Without the marker it is not: Redis was flushed, or a
-- rebuild has begun. A former primary that is the primary again has its old run, and another replication id.
local function is_old_copy(ready, generation)
    local run, whole = identity()
    local marker, current = redis.call('GET', ready), redis.call('GET', generation)
    local back = current and string.find(current, run .. '/', 1, true) == 1
        and string.find(current, whole .. '/', 1, true) ~= 1
    return marker and (marker ~= run or back)
end
