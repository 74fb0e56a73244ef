"""The metrics of the HTTP API."""

from tasks.observe.instruments import Counter, Gauge, Histogram

REQUESTS = Counter(
    "sluice_web_requests_total",
    ("web",),
    "Requests answered, by route and by status.",
    "Many of 401: somebody guesses tokens; of 429: a client asks too often; of 5xx: the answers and"
    " `request` in the log say which server is away.",
    labels=("route", "status"),
    unit="requests",
)
SECONDS = Histogram(
    "sluice_web_request_seconds",
    ("web",),
    "Time from a request to the end of its answer, by route.",
    "Above 1 s: ask for shorter ranges, or look at the database; `status` alone always takes 2 s.",
    labels=("route",),
    unit="seconds",
)
OPEN = Gauge(
    "sluice_web_open_requests",
    ("web",),
    "Requests that wait for their answer.",
    "Near WEB_CONNECTIONS for long: the database is slow, or clients ask for too much.",
    unit="requests",
)
