"""The Celery app: where its configuration is, and the modules of its tasks."""

from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES

# Named by the schemes of URLs, so that log lines show the broker's address as it was given.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "tasks.worker.redis_transport:Transport"))
# The scheme by which Celery knows Sentinels (`tasks.servers.redis_sentinel`).
TRANSPORT_ALIASES["sentinel"] = "tasks.worker.sentinel_transport:Transport"
BACKEND_ALIASES["sentinel"] = "tasks.worker.sentinel_transport:Backend"

app = Celery(
    "sluice",
    include=[
        "tasks.process",
        "tasks.store",
        "tasks.user_requests",
        "tasks.publish_changes",
        "tasks.replay",
        "tasks.dead_letter_share",
        "tasks.apply_rules",
        "tasks.clock",
        "tasks.register_devices",
        "tasks.deliver_channels",
        "tasks.roll_up",
        "tasks.rebuild",
        "tasks.worker.hooks",
    ],
)
app.config_from_object("celeryconfig")
