-- Returns 1 if Redis has an old copy of its memory, which nobody has noticed yet, otherwise 0.
--
-- KEYS: the marker that the states are there, their generation.
return is_old_copy(KEYS[1], KEYS[2]) and 1 or 0
