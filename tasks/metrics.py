"""Every metric of Sluice: its name, which processes show it, what it means, and what to do about a bad value.

`docs/metrics.md` is made from this list. One more metric is one more entry here and one call where the thing
happens, as in `metrics.STORED.add(rows)`. Seconds and bytes, never their multiples.
"""

from tasks.instruments import Counter, Gauge, Histogram, Metric

__all__ = ["CATALOGUE", "Metric"]

BATCH_MESSAGES = (1, 5, 10, 50, 100, 250, 500, 1000, 2000, 4000, 8000)

# Gateway

GATEWAY_RECEIVED = Counter(
    "sluice_gateway_received_messages_total",
    ("gateway",),
    "Messages that came by MQTT, redelivered ones again.",
    "No growth while devices send: see `sluice_mqtt_connected` and the gateway's log.",
    unit="messages",
)
GATEWAY_RECEIVED_BYTES = Counter(
    "sluice_gateway_received_bytes_total",
    ("gateway",),
    "Payload bytes that came by MQTT.",
    "A jump without more messages: a device sends larger payloads; see PAYLOAD_MAX_BYTES.",
    unit="bytes",
)
GATEWAY_UNACKNOWLEDGED = Gauge(
    "sluice_gateway_unacknowledged_messages",
    ("gateway",),
    "Messages taken from MQTT that Kafka has not confirmed yet; at most MQTT_RECEIVE_MAXIMUM.",
    "Near the maximum for minutes: Kafka is slow or away, and the MQTT broker's queue grows.",
    unit="messages",
)
GATEWAY_DROPPED = Counter(
    "sluice_gateway_qos0_dropped_messages_total",
    ("gateway",),
    "QoS 0 messages that Kafka did not take in time. QoS 1 messages are never dropped.",
    "Kafka is slow or away; devices whose readings matter must publish with QoS 1.",
    unit="messages",
)

# Every MQTT client

MQTT_CONNECTED = Gauge(
    "sluice_mqtt_connected",
    ("gateway", "control"),
    "1 while connected to the MQTT broker and subscribed, else 0.",
    "0: the broker is away or refuses the account; the process says which in its log.",
)
MQTT_CONNECTS = Counter(
    "sluice_mqtt_connects_total",
    ("gateway", "control"),
    "Connections made to the MQTT broker: the first, and each after a loss.",
    "Growing: the network or the broker ends connections, or two processes have the same client id.",
    unit="connections",
)
MQTT_SESSIONS_LOST = Counter(
    "sluice_mqtt_sessions_lost_total",
    ("gateway", "control"),
    "Connections at which the MQTT broker had no session though this client had one before.",
    "Messages that waited in the broker are lost: it lost its data, or somebody ended the session."
    " See the runbook.",
    unit="sessions",
)

# Every process

CLOCK_SKEW = Gauge(
    "sluice_clock_skew_seconds",
    ("gateway", "bridge", "control", "worker", "beat"),
    "How far this process's clock is ahead of Redis', or behind if negative; no value while Redis is away.",
    "Beyond 2: set the machine's clock right; see docs/runbook.md, clock skewed.",
    unit="seconds",
)

# Control

REQUESTS = Gauge(
    "sluice_control_requests",
    ("control",),
    "Rules and commands of users that wait for their task's answer.",
    "Growing: the workers or the database are away; nothing is lost, the users wait.",
    unit="requests",
)
REQUEST_AGE = Gauge(
    "sluice_control_oldest_request_seconds",
    ("control",),
    "For how long the request that has waited longest has waited for its answer; 0 when none waits.",
    "Above 30 s: the workers or the database are away, or one user's request hangs; `/readyz` says which.",
    unit="seconds",
)
REQUESTS_GIVEN_UP = Counter(
    "sluice_control_requests_given_up_total",
    ("control",),
    "Requests that were not done within REQUEST_PATIENCE_SECONDS, by kind; their users were told so.",
    "Any: the workers or the database were away, or one request hangs; see `request_given_up` in the log.",
    labels=("kind",),
    unit="requests",
)
REQUESTS_FAILED = Counter(
    "sluice_requests_failed_total",
    ("control", "worker"),
    "Requests that met a bug, by kind; their users were answered with the id that the log has.",
    "Any: look for `request_failed` in the logs, and report the traceback.",
    labels=("kind",),
    unit="requests",
)
REQUESTS_DROPPED = Counter(
    "sluice_control_qos0_dropped_requests_total",
    ("control",),
    "Requests by QoS 0 that came while too many were waiting, and got no answer.",
    "Any: a user sends more than can be done; who needs an answer publishes with QoS 1.",
    unit="requests",
)
ANSWERS = Counter(
    "sluice_control_answers_total",
    ("control",),
    "Rules and commands answered, by kind (config, manage) and outcome (ok, refused).",
    "Many refused ones: a client sends what is no valid rule or command; its answer says what.",
    labels=("kind", "outcome"),
    unit="requests",
)

RULES_INVALID = Gauge(
    "sluice_rules_invalid",
    ("control",),
    "Rules in the table that are invalid and not in force; their users hear of it on config/status.",
    "Above 0: somebody wrote rules by SQL; `sluice rules check --stored` names users and faults.",
    unit="rules",
)

# Bridge

CONSUMED = Counter(
    "sluice_bridge_consumed_messages_total",
    ("bridge",),
    "Messages read from Kafka, those read again after a rebalance included.",
    "No growth while the lag grows: every lane is full; see `sluice_bridge_batches_in_flight`.",
    unit="messages",
)
LAG = Gauge(
    "sluice_consumer_lag_messages",
    ("bridge",),
    "Messages in Kafka without a committed outcome, by topic and partition.",
    "Growing for minutes: the workers do less than devices send; see docs/runbook.md, lag growing.",
    labels=("topic", "partition"),
    unit="messages",
)
ASSIGNED = Gauge(
    "sluice_bridge_assigned_partitions",
    ("bridge",),
    "Partitions that this bridge reads.",
    "0 with no more bridges than partitions: the group rebalances, or Kafka is away.",
    unit="partitions",
)
PAUSED = Gauge(
    "sluice_bridge_paused_partitions",
    ("bridge",),
    "Partitions that are not read for now because their lane is full.",
    "All of them for minutes: the workers are slow or away.",
    unit="partitions",
)
WAITING = Gauge(
    "sluice_bridge_waiting_messages",
    ("bridge",),
    "Messages that wait in the lanes for the batch before them.",
    "Bounded by the settings of batches; high means that the workers are the narrow place.",
    unit="messages",
)
DEFERRED = Counter(
    "sluice_bridge_deferred_messages_total",
    ("bridge",),
    "Messages that went back to their lane, by the reason: `soon`, their user's alerts changed more"
    " than is done in one batch; `held`, their user's outbox is full.",
    "Growing for long: one user's alerts flap; the alerts' history says whose and which rules.",
    labels=("reason",),
    unit="messages",
)
IN_FLIGHT = Gauge(
    "sluice_bridge_batches_in_flight",
    ("bridge",),
    "Batches that workers have, or are to get again; at most LANES.",
    "At LANES with `sluice_batches_finished_total` standing still: workers, Redis or the database are away.",
    unit="batches",
)
SENT = Counter(
    "sluice_bridge_batches_sent_total",
    ("bridge",),
    "Batches given to the workers, resent ones again.",
    "Much faster than batches finish: batches are lost; see `sluice_bridge_batches_lost_total`.",
    unit="batches",
)
BATCHES_LOST = Counter(
    "sluice_bridge_batches_lost_total",
    ("bridge",),
    "Batches without a lease and without a result, which were then sent again.",
    "Growing: workers die, Redis was flushed, or LEASE_SECONDS is too short; see `batch_lost` in the log.",
    unit="batches",
)
COMMITS_FAILED = Counter(
    "sluice_bridge_commits_failed_total",
    ("bridge",),
    "Offset commits that Kafka did not take; they are made up for.",
    "Growing: Kafka is unwell, or rebalances come too often.",
    unit="commits",
)
REBALANCES = Counter(
    "sluice_bridge_rebalances_total",
    ("bridge",),
    "Times that partitions were taken from this bridge.",
    "Growing without bridges that come or go: the bridge stalls for longer than its Kafka session.",
    unit="rebalances",
)
SKIPPED = Counter(
    "sluice_bridge_skipped_records_total",
    ("bridge",),
    "Records that Kafka dropped by its retention before they were read.",
    "Any: these readings are lost; `sluice verify` names them. See docs/runbook.md, records skipped.",
    unit="records",
)
PARTITIONS_ADDED = Counter(
    "sluice_bridge_partitions_added_total",
    ("bridge",),
    "Times that a topic was found with more partitions than before.",
    "Devices move to other partitions: their readings of that moment may be judged in the wrong order, once.",
    unit="topics",
)
CONDEMNED = Counter(
    "sluice_bridge_condemned_messages_total",
    ("bridge",),
    "Messages that kill their workers or meet a bug and were isolated as dead letters, by their error type.",
    "Any: read the dead letters of that type; see docs/failures.md. Replay them once the cause is mended.",
    labels=("error_type",),
    unit="messages",
)
BATCH_SIZE = Histogram(
    "sluice_batch_messages",
    ("bridge",),
    "Messages of each batch sent.",
    "Mostly BATCH_MAX_MESSAGES: the pipeline is at its limit; mostly 1: a longer BATCH_LINGER_MS saves CPU.",
    unit="messages",
    buckets=BATCH_MESSAGES,
)
BATCH_SECONDS = Histogram(
    "sluice_batch_seconds",
    ("bridge",),
    "Time from sending a batch until it is reported done.",
    "Compare with `sluice_stage_seconds`: what is in no stage was spent waiting in Redis for a free child.",
)

# Workers: process and store

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
    "Far below the received ones: see the duplicates and the dead letters.",
    unit="messages",
)
DUPLICATE = Counter(
    "sluice_messages_duplicate_total",
    ("worker",),
    "Messages whose row was there already: redelivered, resent or replayed ones.",
    "Growing without replays: a device repeats itself, or batches are lost and resent.",
    unit="messages",
)
DEAD_LETTERED = Counter(
    "sluice_messages_dead_lettered_total",
    ("gateway", "worker"),
    "Dead letters sent, by the type of error.",
    "Growing: one device or firmware sends wrong payloads; see docs/runbook.md, dead-letter share.",
    labels=("error_type",),
    unit="messages",
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
    "The stage that grows names the narrow place: evaluate Redis, dead_letters Kafka, store the database.",
    labels=("stage",),
)
END_TO_END_SECONDS = Histogram(
    "sluice_end_to_end_seconds",
    ("worker",),
    "Age of the oldest message of each batch, from its Kafka record's time to the commit of its row.",
    "All other messages of the batch are younger. Grows with the lag: see there.",
)
STORE_WAITS = Counter(
    "sluice_store_waits_total",
    ("worker",),
    "Times that `store` waited because the database did not take the rows.",
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
    "Times that a check of a domain raised an error and said nothing of a record, by check.",
    "Any: the check has a bug, and its alerts cannot be relied on; see `check_failed` in the log.",
    labels=("rule_id",),
    unit="checks",
)
ALERT_CHANGES = Counter(
    "sluice_alert_changes_total",
    ("worker",),
    "Changes of alerts, by their new status; REFUSED were not triggered, as their users have too many.",
    "A jump of TRIGGERED: a rule that is too tight, or many devices in trouble; see `sluice alerts list`."
    " REFUSED: one user's rules; see OPEN_ALERTS_PER_USER, and `too_many_alerts` in the log for whose.",
    labels=("status",),
    unit="changes",
)
TOPICS_MADE_AGAIN = Counter(
    "sluice_topics_made_again_total",
    ("worker",),
    "Times that a topic was found deleted and made again, so that its offsets begin at 0.",
    "Any that nobody has planned: what was in the topic before and not committed is lost.",
    unit="topics",
)
PUBLISHES_REFUSED = Counter(
    "sluice_mqtt_publishes_refused_total",
    ("control", "worker"),
    "Times that the MQTT broker refused what a user was to get: a `notice` of an alert, an `answer`.",
    "Any: the log has the user and the broker's reason; see docs/runbook.md, publishes refused.",
    labels=("kind",),
    unit="messages",
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
    "See `sluice_stage_seconds` for the two of the pipeline.",
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
    "For how long this worker has had work and free processes, and has taken nothing.",
    "Growing: it ends itself after WORKER_DEAF_SECONDS; see docs/runbook.md, worker deaf.",
    unit="seconds",
)
REFUSED = Gauge(
    "sluice_worker_redis_refuses",
    ("worker",),
    "1 while this worker waits because Redis refuses its commands, else 0.",
    "1: Redis is full, read-only, or denies the account a command; the worker says which in its log.",
)
CHILDREN_LOST = Counter(
    "sluice_worker_children_lost_total",
    ("worker",),
    "Tasks whose process was killed, or ran out of time; their work is done again.",
    "Growing: out of memory, or a message that kills its worker; see the kernel's log and the worker's.",
    unit="tasks",
)

# Beat: what belongs to no single process

DEAD_LETTER_SHARE_HIGH = Gauge(
    "sluice_dead_letter_share_high",
    ("beat",),
    "1 while more than DEAD_LETTER_SHARE_LIMIT of the messages become dead letters, else 0.",
    "1: the log says as `dead_letter_share_high` which errors, and what to look at.",
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
    "For how long Kafka keeps dead letters, by DEAD_LETTER_RETENTION_DAYS.",
    "Not the topics' own `retention.ms`, as `sluice topics` says: make them equal, or the alarm is wrong.",
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
    "Minutes: users are told late; see docs/runbook.md, outbox age.",
    unit="seconds",
)
QUEUED = Gauge(
    "sluice_queued_tasks",
    ("beat",),
    "Tasks that wait in the broker for a worker, by queue.",
    "Growing: there are too few workers, or they are deaf; see docs/runbook.md, worker deaf.",
    labels=("queue",),
    unit="tasks",
)
TASKS_SENT = Counter(
    "sluice_beat_tasks_sent_total",
    ("beat",),
    "Tasks that beat has sent.",
    "No growth: beat hangs, or Redis is away; silent devices are not noticed then.",
    unit="tasks",
)

CATALOGUE = Metric.catalogue
