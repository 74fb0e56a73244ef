"""The metrics of beat, which do not belong to a single process."""

from tasks.observe.instruments import Counter, Gauge

DEAD_LETTER_SHARE_HIGH = Gauge(
    "sluice_dead_letter_share_high",
    ("beat",),
    "1 while more than DEAD_LETTER_SHARE_LIMIT of the messages become dead letters, else 0.",
    "1: `dead_letter_share_high` in the log names the errors and where to look.",
)
DEAD_LETTER_OLDEST = Gauge(
    "sluice_dead_letter_oldest_unhandled_seconds",
    ("beat",),
    "Age of each domain's oldest dead letter that was neither replayed nor acknowledged; 0 without one.",
    "Kafka drops it after DEAD_LETTER_RETENTION_DAYS; see docs/runbook.md, dead letters expire.",
    labels=("domain",),
    unit="seconds",
)
DEAD_LETTER_RETENTION = Gauge(
    "sluice_dead_letter_retention_seconds",
    ("beat",),
    "Time that Kafka keeps dead letters, by DEAD_LETTER_RETENTION_DAYS.",
    "The alarm is wrong if the topic's `retention.ms` differs: see `sluice topics`, and make them equal.",
    unit="seconds",
)
OUTBOX_ENTRIES = Gauge(
    "sluice_outbox_entries",
    ("beat",),
    "Alert changes not yet delivered to both MQTT and the tables.",
    "Growing: the MQTT broker or the database is away. At OUTBOX_MAX_ENTRIES or OUTBOX_MAX_BYTES no more"
    " readings are judged.",
    unit="entries",
)
OUTBOX_AGE = Gauge(
    "sluice_outbox_oldest_seconds",
    ("beat",),
    "Age of the oldest alert change that is not delivered yet; 0 when there is none.",
    "Minutes: users are notified late; see docs/runbook.md, outbox age.",
    unit="seconds",
)
CHANNELS_WAITING = Gauge(
    "sluice_channel_deliveries_waiting",
    ("beat",),
    "Changes of alerts that were not sent to their channels yet, as of the last look, every five seconds.",
    "Growing: a channel is down, its user over the rate, or nobody takes them; see `sluice channels list`.",
    unit="deliveries",
)
CHANNELS_HELD = Gauge(
    "sluice_channel_deliveries_held",
    ("beat",),
    "Changes of alerts that quiet windows hold back from channels, as of the last look.",
    "Not expected: `sluice quiet list` says which windows are open, and until when.",
    unit="deliveries",
)
CHANNELS_OLDEST = Gauge(
    "sluice_channel_oldest_seconds",
    ("beat",),
    "Age of the oldest of them; 0 without one.",
    "Hours: its channel is down; it is given up after CHANNEL_PATIENCE_HOURS.",
    unit="seconds",
)
CHANNELS_UNTAKEN = Gauge(
    "sluice_channel_untaken_seconds",
    ("beat",),
    "For how long a delivery has been due, its channel free, and no worker has taken it; 0 without one.",
    "Minutes: no worker consumes the queue `notify`, or it hangs; see docs/runbook.md, channels not served.",
    unit="seconds",
)
CHANNELS_ENABLED = Gauge(
    "sluice_channels_enabled",
    ("beat",),
    "Channels of alerts that are enabled.",
    "Not expected; with one, a worker must consume the queue `notify`.",
    unit="channels",
)
QUEUED = Gauge(
    "sluice_queued_tasks",
    ("beat",),
    "Tasks that wait in the broker for a worker, by queue.",
    "Growing: there are too few workers, or they are deaf; see docs/runbook.md, worker deaf.",
    labels=("queue",),
    unit="tasks",
)
ROLLUPS_BEHIND = Gauge(
    "sluice_rollups_behind_seconds",
    ("beat",),
    "Time since every hour of the domain that was due had its rollups; no value without ROLLUPS.",
    "Hours: nobody makes them, or the database refuses some; see docs/runbook.md, rollups behind.",
    labels=("domain",),
    unit="seconds",
)
TASKS_SENT = Counter(
    "sluice_beat_tasks_sent_total",
    ("beat",),
    "Tasks that beat has sent.",
    "No growth: beat hangs, or Redis is away; silent devices are not noticed meanwhile.",
    unit="tasks",
)
