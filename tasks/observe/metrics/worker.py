"""The metrics of workers: the stages of a batch, alerts, and the workers themselves."""

from tasks.observe.instruments import Counter, Gauge, Histogram

RECEIVED = Counter(
    "sluice_messages_received_total",
    ("worker",),
    "Messages of finished batches: stored, duplicate and dead-lettered ones together.",
    "No growth while the lag grows: the workers do not finish; see the log of the worker.",
    unit="messages",
)
STORED = Counter(
    "sluice_messages_stored_total",
    ("worker",),
    "New rows written and committed.",
    "Far below `sluice_messages_received_total`: see the duplicates and the dead letters.",
    unit="messages",
)
DUPLICATE = Counter(
    "sluice_messages_duplicate_total",
    ("worker",),
    "Readings whose row was stored already: redelivered, resent or replayed ones.",
    "Growing without replays: a device repeats itself, or batches are lost and resent.",
    unit="messages",
)
READINGS = Counter(
    "sluice_readings_total",
    ("worker",),
    "Readings of the messages of finished batches: stored, duplicate and refused ones together.",
    "Equal to the messages but where a domain has several readings in one, or ignores some.",
    unit="readings",
)
REPLAYED = Counter(
    "sluice_messages_replayed_total",
    ("worker",),
    "Messages replayed: dead letters produced again (`dead_letters`), records run again (`ranges`).",
    "Stands still while a replay has not ended: see its line in the table `replays`, and docs/replay.md.",
    labels=("kind",),
    unit="messages",
)
BATCHES_FINISHED = Counter(
    "sluice_batches_finished_total",
    ("worker",),
    "Batches whose rows are committed.",
    "No growth while batches are in flight: the workers are stuck or deaf.",
    unit="batches",
)
BATCHES_GIVEN_UP = Counter(
    "sluice_batches_given_up_total",
    ("worker",),
    "Tasks that found their batch's lease gone and did nothing, by stage.",
    "Growing: tasks wait in Redis for longer than LEASE_SECONDS; add workers or raise it.",
    labels=("stage",),
    unit="tasks",
)
STAGE_SECONDS = Histogram(
    "sluice_stage_seconds",
    ("worker",),
    "Time that one part or batch spends in each stage: load, validate, evaluate, dead_letters, keep, store.",
    "The stage that grows shows the bottleneck: evaluate Redis, dead_letters Kafka, store the database.",
    labels=("stage",),
)
END_TO_END_SECONDS = Histogram(
    "sluice_end_to_end_seconds",
    ("worker",),
    "Age of the oldest message of each batch, from its Kafka record's time to the commit of its row.",
    "All other messages of the batch are younger. It grows with `sluice_consumer_lag_messages`: see there.",
)
STORE_WAITS = Counter(
    "sluice_store_waits_total",
    ("worker",),
    "Times that `store` waited because the database could not take the rows.",
    "Growing: the database is away or overloaded; the reason is in the log as `store_waits`.",
    unit="waits",
)
DB_BREAKER_STATE = Gauge(
    "db_circuit_breaker_state",
    ("worker",),
    "Circuit breaker of the database, one for all workers: 1 open, 0.5 half-open, 0 closed.",
    "1: the database is away and left alone; the reason is in a worker's log as `breaker_open`.",
)
DB_BREAKER_REJECTED = Counter(
    "db_circuit_breaker_rejected_total",
    ("worker",),
    "Accesses to the database that were refused without a try, because its circuit breaker was open.",
    "Growing: the database is away, or slow to answer; see `db_circuit_breaker_state`.",
    unit="accesses",
)
CHECKS_FAILED = Counter(
    "sluice_checks_failed_total",
    ("worker",),
    "Times that a check of a domain raised an error and had no result, by check.",
    "Any: the check has a bug, and its alerts cannot be relied on; see `check_failed` in the log.",
    labels=("rule_id",),
    unit="checks",
)
TIME_HINTS = Counter(
    "sluice_time_hints_total",
    ("worker",),
    "Hints, once an hour and device, at a member such as `ts` that looks like a time and is an extra.",
    "Any: the device's own times are not those of its rows; see `time_kept_as_extra` in the log.",
    unit="hints",
)
ALERT_CHANGES = Counter(
    "sluice_alert_changes_total",
    ("worker",),
    "Changes of alerts, by their new status; REFUSED alerts were not triggered because their user has too"
    " many open.",
    "A jump of TRIGGERED: a rule that is too tight, or many devices in trouble; see `sluice alerts list`."
    " REFUSED: one user's rules; see OPEN_ALERTS_PER_USER, and `too_many_alerts` in the log.",
    labels=("status",),
    unit="changes",
)
CHANNEL_ATTEMPTS = Counter(
    "sluice_channel_attempts_total",
    ("worker",),
    "Attempts to send a change of an alert to a channel, by outcome: `sent`, `again` (it is tried again),"
    " `failed`; and `expired`, changes given up after CHANNEL_PATIENCE_HOURS.",
    "`failed` or `expired` growing: `sluice channels list` says which channel and why;"
    " `sluice channels retry` sends them again.",
    labels=("outcome",),
    unit="attempts",
)
TOPICS_MADE_AGAIN = Counter(
    "sluice_topics_made_again_total",
    ("worker",),
    "Times that the offsets of a topic started over: it was deleted and created again, or Kafka lost"
    " records.",
    "Any unplanned one: uncommitted records from before are lost; see docs/runbook.md.",
    unit="topics",
)
STATES_UNKNOWN = Counter(
    "sluice_unknown_alert_states_total",
    ("worker",),
    "Times that alert states were found which this version cannot read.",
    "Growing: workers of two versions run; stop either. With one version left the states are rebuilt.",
    unit="states",
)
TASK_SECONDS = Histogram(
    "sluice_task_seconds",
    ("worker",),
    "Time that tasks run, by task.",
    "See `sluice_stage_seconds` for `process_part` and `store_batch`.",
    labels=("task",),
)
TASKS_FAILED = Counter(
    "sluice_tasks_failed_total",
    ("worker",),
    "Tasks that ended with an error, by task. Their work is done again.",
    "Growing: the error is in the worker's log.",
    labels=("task",),
    unit="tasks",
)
CHILDREN = Gauge(
    "sluice_worker_children",
    ("worker",),
    "Processes of this worker that run tasks.",
    "At the maximum of --autoscale with a growing lag: more CPU or more workers would help.",
    unit="processes",
)
ACTIVE_TASKS = Gauge(
    "sluice_worker_active_tasks",
    ("worker",),
    "Tasks that this worker's children have at the moment.",
    "Equal to the children for minutes while nothing finishes: they hang; see the database and Redis.",
    unit="tasks",
)
DEAF = Gauge(
    "sluice_worker_deaf_seconds",
    ("worker",),
    "Time for which this worker has taken no work, although there is some and it has free processes.",
    "Growing: it ends itself after WORKER_DEAF_SECONDS; see docs/runbook.md, worker deaf.",
    unit="seconds",
)
REFUSED = Gauge(
    "sluice_worker_redis_refuses",
    ("worker",),
    "1 while this worker waits because Redis refuses its commands, else 0.",
    "1: Redis is full, read-only, or denies the account a command; see the worker's log.",
)
CHILDREN_LOST = Counter(
    "sluice_worker_children_lost_total",
    ("worker",),
    "Tasks whose process was killed, or ran out of time; their work is done again.",
    "Growing: out of memory, or a message that kills its worker; see the kernel's log and the worker's.",
    unit="tasks",
)
DEVICES_COUNTED_AGAIN = Counter(
    "sluice_devices_counted_again_total",
    ("worker",),
    "Domains whose devices were counted from the rows: at first, and when activity was lost in Redis.",
    "Growing without a restart of Redis: nobody reads it; see `devices_wait` in the workers' log.",
    unit="counts",
)
ROLLED_UP = Counter(
    "sluice_rollup_hours_total",
    ("worker",),
    "Hours of a domain whose rollups were made, at first or again because rows came late.",
    "Stands still with `ROLLUPS`: beat or the workers of `db` are away, or see `rollups_wait` in their log.",
    unit="hours",
)
EXPIRED = Counter(
    "sluice_retention_removed_total",
    ("worker",),
    "Data removed because it was older than its retention: chunks of hypertables, rows of plain tables.",
    "Stands still for days although `RETENTION_DAYS` is set: see `retention_waits` in the workers' log.",
    labels=("table",),
    unit="removed",
)
REJECTED_NOTICES = Counter(
    "sluice_rejected_notices_total",
    ("worker",),
    "Notices to devices about refused messages: `published`, `over_limit`, `late`, `lost` or `refused`.",
    "`lost`: the MQTT broker or Redis is away; `refused`: see `rejected_notices_refused` in the worker's log."
    " The dead letters are there in any case.",
    labels=("outcome",),
    unit="notices",
)
