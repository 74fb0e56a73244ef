"""`sluice channels`, and the worker that the Procfile starts for channels."""

import json
import os

import pytest

from compose.local.stack import Stack
from ingest.admin.alerting import channels
from tasks import deliver_channels
from tasks.channels import tables, wake
from tasks.servers.redis_client import CHANNELS_QUEUED, client
from tests.integration import pages
from tests.integration.changes import Database, judge, write_tables
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.notify_process import notify_worker
from tests.integration.receivers import http_receiver
from tests.integration.user_channels import Set, deliveries, none_waits, setting, user

__all__ = ["setting", "user"]


def test_the_operators_commands_and_the_worker_of_the_procfile(
    stack: Stack, user: str, database: Database, setting: Set
) -> None:
    """A channel is added, tried, used by the worker, looked at and removed; nothing shows where it leads."""
    del setting
    allowed = {name: os.environ[name] for name in ("CHANNEL_SCHEMES", "CHANNEL_ALLOWED_NETWORKS")}

    def run(*arguments: str, stdin: str = "") -> str:
        done = sluice(stack, "channels", *arguments, stdin=stdin, **allowed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with http_receiver() as receiver:
        secret = run("add", user, "hook", "webhook", stdin=f"{receiver.url('/token')}\n").strip()
        assert len(secret) == 64
        run("test", user, "hook")
        assert receiver.calls[0].notice["status"] == "TEST"
        again = sluice(stack, "channels", "add", user, "hook", "webhook", receiver.url(), **allowed)
        assert (again.returncode, "has a channel hook" in again.stderr) == (1, True)
        closed = sluice(
            stack, "channels", "add", user, "other", "webhook", receiver.url(), CHANNEL_SCHEMES="https"
        )
        assert "CHANNEL_SCHEMES" in closed.stderr

        # Nobody consumes the queue: what is due shows, and few tasks wait.
        client().delete("notify", CHANNELS_QUEUED)
        for reading in range(4):
            judge(user, "d", (reading, 90.0 if reading % 2 == 0 else 20.0))
            write_tables()
            client().delete(CHANNELS_QUEUED)
        deliver_channels.watch()
        look = wake.seen()
        assert look is not None
        assert look.untaken is not None
        # By this Prometheus' alert knows that somebody must consume the queue.
        ((enabled,),) = database.execute("SELECT count(*) FROM channels WHERE enabled").fetchall()
        assert look.channels == enabled
        database.execute("UPDATE channels SET enabled = false WHERE user_id = %s", [user])
        deliver_channels.watch()
        idle = wake.seen()
        assert idle is not None
        assert idle.channels == enabled - 1
        database.execute("UPDATE channels SET enabled = true WHERE user_id = %s", [user])
        assert client().llen("notify") == 1
        with notify_worker(stack, **allowed):
            wait_until(lambda: len(receiver.calls) == 5, 60, "the worker to tell the channel")
            wait_until(none_waits(database, user), 10, "the deliveries to be noted")
            sent = pages.value(stack, "notify", "sluice_channel_attempts_total", outcome="sent")
            assert sent == 4
        deliver_channels.watch()
        look = wake.seen()
        assert look is not None
        assert look.untaken is None

    shown = run("list", "--user", user, "--json") + run("list") + run("log", user, "hook")
    assert "token" not in shown
    assert secret not in shown
    assert json.loads(run("list", "--user", user, "--json"))[0]["sent"] == 4
    database.execute("UPDATE channel_deliveries SET state = 'failed', why = 'of the test'")
    with pytest.MonkeyPatch.context() as patch:
        # No more than may wait, whatever has failed.
        patch.setattr(tables, "MOST_WAITING", 3)
        assert channels.retry(database, user, "hook") == (3, 0)
        assert channels.retry(database, user, "hook") == (0, 0)
    run("retry", user, "hook")
    assert deliveries(database, user) == {("hook", "waiting"): 4}
    database.execute("UPDATE channel_deliveries SET created_at = now() - interval '25 hours'")
    deliver_channels.tidy()
    assert deliveries(database, user) == {("hook", "failed"): 4}
    database.execute("UPDATE channel_deliveries SET done_at = now() - interval '31 days'")
    deliver_channels.tidy()
    assert deliveries(database, user) == {}
    run("remove", user, "hook")
    assert sluice(stack, "channels", "remove", user, "hook").returncode == 1
