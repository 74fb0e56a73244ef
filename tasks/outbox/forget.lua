-- Drops the outbox and the marks of the states, so that they are rebuilt: another memory of Redis has them by now.
--
-- KEYS: the marker that the states are there, their generation, then the outbox's keys.
-- ARGV: the identity of the memory that is to be forgotten.
local _, whole = identity()
if whole == ARGV[1] then
    redis.call('UNLINK', unpack(KEYS))
end
