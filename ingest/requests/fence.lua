-- Sets a key, unless another control process acts by now.
--
-- KEYS: who acts, the key. ARGV: this process, whom it may take over from (empty: nobody), the value, for how many
-- milliseconds.
-- Returns an empty string, or who acts.
local acts = redis.call('GET', KEYS[1])
if acts and acts ~= ARGV[1] and acts ~= ARGV[2] then
    return acts
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return ''
