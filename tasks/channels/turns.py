"""Whose turn it is: the next delivery of each channel that may be sent.

A delivery that waits for its next attempt holds back the later ones of the same rule and device. However many
these are, they are not read row by row: after the oldest few, the first of each rule and device is looked up
by the index.
"""

from tasks.channels import quiet

# This many of the oldest are looked at one by one: nearly always the first of them may be sent.
NEAR = 100

# Rows are compared as the index `channel_deliveries_rule` has them, so that the planner takes it. By
# statistics from when nearly nothing waited, it may take another and read all that waits.
_PLACE = "(d.channel_id, d.device_id, d.rule_id)"
_PENDING = "d.state IN ('waiting', 'held')"
# Deliveries of one rule and device stay in order: a RESOLVED does not overtake its TRIGGERED. Deliveries that
# an open window lets through overtake those it holds back.
_HELD_BACK = f"""EXISTS (SELECT FROM channel_deliveries AS older
    WHERE (older.channel_id, older.device_id, older.rule_id, older.id)
            < (d.channel_id, d.device_id, d.rule_id, d.id)
        AND (older.channel_id, older.device_id, older.rule_id) >= (d.channel_id, d.device_id, d.rule_id)
        AND older.state IN ('waiting', 'held') AND NOT {quiet.open_now("older", "c")})"""

_NEXT = f"""
WITH RECURSIVE near AS MATERIALIZED (
    SELECT d.id, d.next_at FROM (
        SELECT * FROM channel_deliveries AS d WHERE d.channel_id = s.channel_id AND d.state = 'waiting'
        ORDER BY d.id LIMIT %(near)s) AS d
    WHERE d.next_at <= now() AND NOT {quiet.quiet("d", "c")} AND NOT {_HELD_BACK}
    ORDER BY d.id LIMIT 1
), of_rules AS (
    (SELECT d.channel_id, d.device_id, d.rule_id FROM channel_deliveries AS d
    WHERE {_PENDING} AND {_PLACE} >= (s.channel_id, '', '') AND NOT EXISTS (SELECT FROM near)
    ORDER BY d.channel_id, d.device_id, d.rule_id LIMIT 1)
    UNION ALL
    SELECT following.* FROM of_rules AS one CROSS JOIN LATERAL (
        SELECT d.channel_id, d.device_id, d.rule_id FROM channel_deliveries AS d
        WHERE {_PENDING} AND {_PLACE} > (one.channel_id, one.device_id, one.rule_id)
        ORDER BY d.channel_id, d.device_id, d.rule_id LIMIT 1) AS following
    WHERE one.channel_id = s.channel_id
), far AS (
    SELECT d.id, d.next_at FROM of_rules AS one CROSS JOIN LATERAL (
        SELECT * FROM channel_deliveries AS d
        WHERE {_PENDING} AND {_PLACE} >= (one.channel_id, one.device_id, one.rule_id)
            AND {_PLACE} <= (one.channel_id, one.device_id, one.rule_id)
            AND NOT {quiet.open_now("d", "c")}
        ORDER BY d.channel_id, d.device_id, d.rule_id, d.id LIMIT 1) AS d
    WHERE one.channel_id = s.channel_id
        AND d.state = 'waiting' AND d.next_at <= now() AND NOT {quiet.quiet("d", "c")}
    ORDER BY d.id LIMIT 1
)
SELECT id, next_at FROM near UNION ALL SELECT id, next_at FROM far
"""  # noqa: S608 - constants

# Due, not quiet and free; `due` is the delivery. Its statement has the CTE `windows`, and `near` for NEAR.
FREE = f"""
channel_states AS s JOIN channels AS c ON c.id = s.channel_id
LEFT JOIN channel_users AS u ON u.user_id = c.user_id
CROSS JOIN LATERAL ({_NEXT}) AS due
"""
# And within the user's rate.
MAY = """
c.enabled AND s.lease_until <= now() AND s.rests_until <= now()
    AND coalesce(u.free_at, '-infinity') <= now() + %(burst)s * interval '1 second'
"""
