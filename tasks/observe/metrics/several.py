"""The metrics of more than one kind of process."""

from tasks.observe.instruments import Counter, Gauge

DEAD_LETTERED = Counter(
    "sluice_messages_dead_lettered_total",
    ("gateway", "worker"),
    "Dead letters sent, by the type of error.",
    "Growing: one device or firmware sends wrong payloads; see docs/runbook.md, dead-letter share.",
    labels=("error_type",),
    unit="messages",
)
IGNORED = Counter(
    "sluice_messages_ignored_total",
    ("gateway", "worker"),
    "Messages that hold no reading, by the form of their domain: availability, configuration, no value.",
    "All messages of a source: its form does not fit; try one with `sluice domain try`.",
    unit="messages",
)
PUBLISHES_REFUSED = Counter(
    "sluice_mqtt_publishes_refused_total",
    ("control", "worker"),
    "Messages to users that the MQTT broker refused: the `notice` of an alert, its `state`, or an `answer`.",
    "Any: the log has the user and the broker's reason; see docs/runbook.md, publishes refused.",
    labels=("kind",),
    unit="messages",
)
CLOCK_SKEW = Gauge(
    "sluice_clock_skew_seconds",
    ("gateway", "bridge", "control", "worker", "beat"),
    "How far this process's clock is ahead of Redis', or behind if negative; no value while Redis is away.",
    "Beyond 2: set the machine's clock right; see docs/runbook.md, clock skewed.",
    unit="seconds",
)
