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
