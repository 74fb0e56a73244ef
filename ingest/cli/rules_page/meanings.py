"""The meaning of each operator, action, status, reason and field of an alert."""

OPERATORS = {
    ">": "the value is above `threshold`",
    "<": "the value is below `threshold`",
    ">=": "the value is `threshold` or above it",
    "<=": "the value is `threshold` or below it",
    "==": "the value equals `threshold`",
    "!=": "the value does not equal `threshold`",
    "in": "the value is one of those in `threshold`, an array",
    "unchanged": "the value is the same as in the reading before; with `for_seconds`, for that long. It has"
    " no `threshold`",
    "absent": "nothing has come for `for_seconds`: no value of the key, or nothing of the whole device"
    " without a `key`. It has no `threshold` and no `clear_threshold`, and needs at least a second",
}
ACTIONS = {
    "SNOOZE": "The rule is silent for `duration_minutes`, also before it has an alert. An open alert that"
    " ends meanwhile is resolved at once; if it does not, it triggers again after the snooze, under another"
    " `alert_id`.",
    "DISABLE": "The rule is not judged for this device, until `ENABLE`. This ends an open alert.",
    "ENABLE": "Ends a snooze or a `DISABLE`. An alert that is still open triggers again at the next reading.",
    "ACKNOWLEDGE": "Notes on an open alert who has seen it, when, and a `note`. The alert goes on; its end,"
    " or a new one after a snooze, ends the acknowledgement.",
}
STATUSES = {
    "TRIGGERED": "The rule is violated, for `for_seconds`.",
    "FLAPPING": "The rule is violated, and its alert has changed too often for each change to be published.",
    "ESCALATED": "A value has raised the alert to a higher `severity`.",
    "RESOLVED": "The violation is over, or the rule is gone.",
    "SNOOZED": "A user snoozed the alert.",
    "DISABLED": "A user disabled the rule for this device.",
    "ENABLED": "A user ended a snooze or a `DISABLE`.",
    "ACKNOWLEDGED": "A user has seen the alert.",
}
REASONS = {
    "rule_removed": "resolved, because the user deleted the rule",
    "rule_changed": "resolved, because the `rule_id` now has another key or operator",
    "snooze_ended": "triggered again after a snooze",
    "calm": "what was flapping is calm: triggered if it is violated, resolved if it is not",
    "returned": "resolved, because what was absent has come",
    "until TIME": "snoozed until then",
}
FIELDS = {
    "alert_id": "the same in all changes of one alert, and in repetitions of a change",
    "status": "the change; see the table below",
    "user_id": "the owner of the device",
    "device_id": "the device; for a source of another domain, `NAME/ID`",
    "rule_id": "the rule's `id`, or else its `key`; `absent` where it has neither",
    "message": "the rule's",
    "severity": "the rule's, or the highest one that it was escalated to",
    "key": "the rule's; null if it has none",
    "operator": "the rule's, or `check` for a check of the domain",
    "threshold": "the rule's; null for `absent` and for checks",
    "value": "the latest value that violated the rule; when RESOLVED, the value that resolved it; null if"
    " there is none",
    "values": "likewise, by their keys, if the rule compares several; otherwise left out",
    "time": "time of the reading that made the change, or else of the command or the clock",
    "sequence_id": "of the latest reading that violated the rule; null if there is none",
    "first_seen": "time since which the rule has been violated without a break",
    "last_seen": "the latest reading that violated it; for `absent`, when it was noticed",
    "count": "how many readings have violated it since `first_seen`",
    "reason": "the cause, if rule and reading do not show it; otherwise left out",
    "by": "the user who sent the command, or `operator/NAME`; otherwise left out",
    "note": "the note of an `ACKNOWLEDGE`; otherwise left out",
}
