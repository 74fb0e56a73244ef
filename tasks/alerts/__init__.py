"""Alerts: evaluates rules on readings and on silence, with the states in Redis.

`evaluate` judges the readings of a part and `absences` those that did not come; `state_store` reads and
commits the states, and `rebuild` restores them from the tables. The rules themselves are in `tasks.rules`,
which is pure.
"""
