-- Returns the generation of the states, or '' where they are lost.
--
-- KEYS: the marker that the states are there, their generation.
return generation_in(KEYS[1], KEYS[2])
