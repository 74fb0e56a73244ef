"""Flower's configuration: the login, which may be in a file of secrets and not in the environment."""

from kombu import Queue

from tasks import app
from tasks.settings import settings

_login = settings().flower_basic_auth
if _login is None or not all(_login.get_secret_value().partition(":")):
    raise SystemExit("Flower needs a login: set FLOWER_BASIC_AUTH to NAME:PASSWORD.")
basic_auth = [_login.get_secret_value()]
# Before a worker answers, Flower knows only these queues. Workers name theirs when they start.
app.conf.task_queues = [Queue(name) for name in ("process", "db", "notify")]
