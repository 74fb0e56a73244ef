"""Celery's configuration, every value from `tasks.settings` or with its reason beside it."""

from tasks.servers import celery_broker, redis_client
from tasks.settings import settings

_settings = settings()

broker_url = celery_broker.url(_settings)
result_backend = celery_broker.redis_url(_settings)
# None where the URL is neither rediss:// nor amqps://
broker_use_ssl = celery_broker.tls_options(_settings) or None
redis_backend_use_ssl = redis_client.tls_options(_settings) or None

broker_transport_options = celery_broker.transport_options(_settings)
broker_connection_timeout = _settings.redis_timeout_seconds
# Only for RabbitMQ, and announced by workers: a connection that has been silent for twice as long is broken.
broker_heartbeat = 10
result_backend_transport_options = celery_broker.redis_sockets(_settings)
redis_socket_timeout = _settings.redis_timeout_seconds
redis_socket_connect_timeout = _settings.redis_timeout_seconds
redis_socket_keepalive = True
redis_backend_health_check_interval = 10
redis_retry_on_timeout = True
broker_connection_retry_on_startup = True
# A full Redis refuses commands: tasks/worker/consumer.py waits that out, where Celery would end the worker.
broker_channel_error_retry = _settings.celery_broker_url is None

# A forged task message must not be able to run code, as it could with pickle. `celery call` sends JSON,
# whatever the serializer here.
task_serializer = "msgpack"
result_serializer = "msgpack"
accept_content = ["msgpack", "json"]
result_accept_content = ["msgpack"]

# Counts what it refuses.
worker_consumer = "tasks.worker.consumer:Consumer"
# Does not end the children that the next second needs.
worker_autoscaler = "tasks.worker.autoscaler:Autoscaler"

task_default_queue = "process"
task_routes = {
    "tasks.process.*": {"queue": "process"},
    "tasks.store.*": {"queue": "db"},
    "tasks.replay.*": {"queue": "db"},
    "tasks.config.set_rules": {"queue": "db"},
    "tasks.config.read_back": {"queue": "db"},
    "tasks.notify.deliver_database": {"queue": "db"},
    "tasks.devices.*": {"queue": "db"},
    # Tasks that wait for servers that users choose have workers of their own.
    "tasks.channels.deliver": {"queue": "notify"},
    "tasks.channels.test": {"queue": "notify"},
    "tasks.channels.*": {"queue": "db"},
    "tasks.rollups.*": {"queue": "db"},
}

# No `expires`: tasks/worker/schedule.py, which beat is started with, has the reason.
beat_schedule = {
    "clock of the alerts": {"task": "tasks.alerts.clock.tick", "schedule": 1.0},
    "outbox over MQTT": {"task": "tasks.notify.deliver_mqtt", "schedule": 5.0},
    "outbox into the tables": {"task": "tasks.notify.deliver_database", "schedule": 5.0},
    "share of dead letters": {"task": "tasks.share.watch_share", "schedule": 10.0},
    "dead letters that nobody handles": {"task": "tasks.replay.watch_unhandled", "schedule": 60.0},
    "replays whose worker is gone": {"task": "tasks.replay.go_on", "schedule": 30.0},
    "registry of devices": {"task": "tasks.devices.register", "schedule": 5.0},
    "old days of devices": {"task": "tasks.devices.tidy", "schedule": 3600.0},
    "channels of alerts": {"task": "tasks.channels.watch", "schedule": 5.0},
    "old deliveries to channels": {"task": "tasks.channels.tidy", "schedule": 600.0},
    "rollups": {"task": "tasks.rollups.make", "schedule": 60.0},
    "retention": {"task": "tasks.rollups.expire", "schedule": 3600.0},
    "changed rules": {"task": "tasks.alerts.apply_rules", "schedule": 600.0},
}

# Acknowledge after the work, and keep no task in reserve that another worker could do.
task_acks_late = True
worker_prefetch_multiplier = 1
# A message that kills its worker would come back at once and kill the next: its lane sends it again.
task_reject_on_worker_lost = False
# How long a result of a dead child is still awaited; a lane waits as long, and a repetition costs little.
worker_lost_wait = 0.5
# A machine that is busy starts a child in more than Celery's four seconds, and killing it does not help.
worker_proc_alive_timeout = 30.0
# The longest task is a `store` that waits for the database: at the end of the wait it may have begun a
# statement for the rows, and then begins one for the alerts.
task_time_limit = _settings.store_wait_seconds + 2 * _settings.database_statement_timeout_seconds + 30
# A task of channels takes deliveries for 20 s, each for up to 60 s, and then the same two statements.
task_annotations = {
    "tasks.channels.deliver": {
        "time_limit": max(task_time_limit, 110 + 2 * _settings.database_statement_timeout_seconds)
    },
    # Tasks that the clock starts every few seconds, mostly for nothing, would hide the batches in Flower.
    "tasks.alerts.clock.tick": {"send_events": False},
    "tasks.channels.watch": {"send_events": False},
    "tasks.devices.register": {"send_events": False},
}

task_ignore_result = True
result_expires = _settings.celery_result_expires_seconds

# Only for a cold shutdown (SIGQUIT, or SIGTERM under REMAP_SIGTERM=SIGQUIT); see tasks/worker/stop.py.
worker_soft_shutdown_timeout = _settings.celery_soft_shutdown_seconds
worker_hijack_root_logger = False
worker_redirect_stdouts = False
timezone = "UTC"
