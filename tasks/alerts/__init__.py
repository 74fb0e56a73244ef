"""Alerts: evaluates rules on readings and on silence, with the states in Redis.

The decision is in `tasks.rules.machine`, which is pure. `evaluate` feeds it the readings of a part, and
`absences` the time of those that did not come; `state_store` reads and commits the states, and `rebuild`
restores them from the tables.
"""
