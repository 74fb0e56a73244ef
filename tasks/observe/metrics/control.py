"""The metrics of the control process."""

from tasks.observe.instruments import Counter, Gauge

REQUESTS = Gauge(
    "sluice_control_requests",
    ("control",),
    "Requests of users that wait for their task's answer.",
    "Growing: the workers or the database are away; nothing is lost, the users wait.",
    unit="requests",
)
REQUEST_AGE = Gauge(
    "sluice_control_oldest_request_seconds",
    ("control",),
    "Age of the oldest request without an answer; 0 when there is none.",
    "Above 30 s: the workers or the database are away, or one user's request hangs; `/readyz` says which.",
    unit="seconds",
)
REQUESTS_GIVEN_UP = Counter(
    "sluice_control_requests_given_up_total",
    ("control",),
    "Requests that were not done within REQUEST_PATIENCE_SECONDS, by kind; their users got an answer.",
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
    "Requests with QoS 0 that came while too many were waiting, and got no answer.",
    "Any: a user sends requests faster than they are handled; a client that needs an answer must publish"
    " with QoS 1.",
    unit="requests",
)
ANSWERS = Counter(
    "sluice_control_answers_total",
    ("control",),
    "Requests answered, by kind (config, manage, rules, alerts) and outcome (ok, refused).",
    "Many refused ones: a client sends invalid rules, commands or queries; the answers list the faults.",
    labels=("kind", "outcome"),
    unit="requests",
)

CERTIFICATE_ENDS = Gauge(
    "sluice_certificate_ends_timestamp_seconds",
    ("control",),
    "Moment in Unix time at which a certificate ends, by `server` (`host:port` or a file of the settings).",
    "Within 14 days: replace the certificate; see docs/runbook.md, certificate ends.",
    labels=("server",),
    unit="seconds",
)
RULES_INVALID = Gauge(
    "sluice_rules_invalid",
    ("control",),
    "Rules in the table that are invalid and not in force; config/status reports them to their users.",
    "Above 0: rules were written by SQL; `sluice rules check --stored` names users and faults.",
    unit="rules",
)
