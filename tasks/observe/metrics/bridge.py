"""The metrics of the bridge."""

from tasks.observe.instruments import Counter, Gauge, Histogram

BATCH_MESSAGES = (1, 5, 10, 50, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000)

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
    "Growing for minutes: the workers are slower than the devices; see docs/runbook.md, lag growing.",
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
    "Bounded by the batch settings; high: the workers are the bottleneck.",
    unit="messages",
)
DEFERRED = Counter(
    "sluice_bridge_deferred_messages_total",
    ("bridge",),
    "Messages that went back to their lane, by reason: `soon`, their user's alerts changed more than one"
    " batch may write; `held`, their user's outbox is full.",
    "Growing for a long time: one user's alerts flap; the alerts' history has the user and the rules.",
    labels=("reason",),
    unit="messages",
)
IN_FLIGHT = Gauge(
    "sluice_bridge_batches_in_flight",
    ("bridge",),
    "Batches that workers have or will get again; at most LANES.",
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
    "Offset commits that failed; the next commit includes them.",
    "Growing: Kafka is unwell, or rebalances come too often.",
    unit="commits",
)
REBALANCES = Counter(
    "sluice_bridge_rebalances_total",
    ("bridge",),
    "Times that partitions were taken from this bridge.",
    "Growing while no bridge starts or stops: the bridge stalls for longer than its Kafka session.",
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
    "Any: read the dead letters of that type; see docs/failures.md. Replay them once the cause is fixed.",
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
    "Compare with `sluice_stage_seconds`: the difference is the wait in Redis for a free child.",
)
