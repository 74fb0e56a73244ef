"""PostgreSQL on two machines: how the primary is found, a silent one left, and what counts as stored."""

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from compose.local import preparation
from ingest.admin import postgres
from ingest.admin.errors import ServerAway
from ingest.api.connections import Connections
from tasks.batch.messages import Row
from tasks.domain.payload import Limits
from tasks.outbox import tables
from tasks.outbox.entry import Entry
from tasks.rows import write
from tasks.servers import database
from tasks.servers.database import Connection, connect_directly
from tasks.servers.listening import Listening
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.integration.fleet import wait_until
from tests.integration.postgres_pair import Machine, PostgresPair, postgres_pair

pytestmark = pytest.mark.timeout(180)

STATEMENT_SECONDS = 1
SILENT_SECONDS = STATEMENT_SECONDS + database.SILENCE_SECONDS
# What a loaded machine may take besides.
LATER_SECONDS = 10.0
CHANNEL = "sluice_test"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    """A pair with Sluice's tables, made by a URL of both machines."""
    with postgres_pair(tmp_path_factory.mktemp("pair")) as pair:
        preparation.migrate(pair.settings)
        yield pair


@pytest.fixture
def pair(servers: PostgresPair, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresPair]:
    """The pair, whole; this process finds the primary by its settings."""
    for name, value in servers.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT_SECONDS", str(STATEMENT_SECONDS))
    settings.cache_clear()
    yield servers
    settings.cache_clear()
    servers.standby.reconnect()
    servers.join()


class Heard(Listening):
    """What is notified."""

    def __init__(self, url: str) -> None:
        super().__init__("heard", url, "sluice-test", CHANNEL)
        self.words: list[str] = []
        self.asked = threading.Event()

    def follow(self, connection: Connection) -> None:
        """As the listeners do it: waits for a while, then asks."""
        while not self.stopping.is_set():
            self.words += [notice.payload for notice in connection.notifies(timeout=0.2)]
            connection.execute("SELECT")
            self.asked.set()
            self.succeeded()


def rows(run: str) -> list[Row]:
    """A few rows of one device."""
    payload = b'{"sequence_id": %d, "time": "2026-03-02T10:00:00Z", "temperature": 20.5}'
    topic = f"users/{run}/devices/d/telemetry"
    return [Row(0, n, DOMAIN.validate(topic, payload % n, 0, Limits()).copy_line) for n in range(10)]


def end_writers(machine: Machine) -> None:
    """Ends the processes that await a standby: what they wrote is there, and on no other machine."""
    with machine.superuser() as server:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")


def test_a_listener_leaves_a_silent_server_for_the_new_primary(pair: PostgresPair) -> None:
    """Its connection to a hung machine stays open, and no keepalive tells that nobody answers."""
    heard = Heard(pair.settings["DATABASE_URL"])
    heard.start()
    try:
        assert heard.asked.wait(20)
        pair.primary.hang()
        pair.promote()
        with psycopg.connect(pair.url(pair.primary), autocommit=True) as connection:

            def notified() -> bool:
                connection.execute(f"NOTIFY {CHANNEL}, 'new'")
                return "new" in heard.words

            wait_until(notified, SILENT_SECONDS + LATER_SECONDS, "a notification of the new primary")
    finally:
        heard.stop()


def test_the_web_gives_up_all_connections_to_a_silent_server_at_once(pair: PostgresPair) -> None:
    """The second request finds the new primary, however many connections were kept."""
    connections = Connections(4, STATEMENT_SECONDS)
    with connections.reading(), connections.reading(), connections.reading(), connections.reading():
        pass
    pair.primary.hang()
    pair.promote()
    began = time.monotonic()
    with connections.reading() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    assert time.monotonic() - began < 2 * SILENT_SECONDS
    connections.close()


def test_rows_on_a_primary_that_no_standby_follows_do_not_count_as_stored(pair: PostgresPair) -> None:
    """Not the first time, and not when a worker finds them there: a promoted standby would not have them."""
    old, run = pair.primary, rows(uuid4().hex[:8])
    pair.standby.kill()
    for _ in range(2):
        with (
            connect_directly(pair.url(old), "test", 2.0) as connection,
            pytest.raises(psycopg.OperationalError, match="no answer"),
        ):
            write.write(connection, DOMAIN, run, 30)
        end_writers(old)
    with psycopg.connect(pair.url(old)) as connection:
        assert connection.execute("SELECT count(*) FROM raw_telemetry").fetchone() == (len(run),)


def test_changes_of_alerts_there_do_not_count_as_written_either(pair: PostgresPair) -> None:
    """Not even the end of an alert, of which a worker that comes again finds all to be there."""
    old, user = pair.primary, uuid4().hex[:8]
    key = {"user_id": user, "device_id": "d", "rule_id": "hot"}
    record = {**key, "alert_id": str(uuid4()), "status": "RESOLVED", "severity": "critical", "number": 2}
    record["time"] = "2026-03-02T10:00:00Z"
    document = {**key, "changes": [{"record": record}], "written": [], "gone": ["hot"]}
    pair.standby.kill()
    for _ in range(2):
        with (
            connect_directly(pair.url(old), "test", 2.0) as connection,
            pytest.raises(psycopg.OperationalError, match="no answer"),
        ):
            tables.write(connection, [Entry("1-1", document)], lambda: None, 30)
        end_writers(old)
    with psycopg.connect(pair.url(old)) as connection:
        assert connection.execute("SELECT user_id FROM alert_history").fetchall() == [(user,)]


def test_an_old_primary_that_goes_on_stores_nothing(pair: PostgresPair) -> None:
    """It wakes up beside the new one: what is sent to it is stored when the new one has it."""
    old, run = pair.primary, rows(uuid4().hex[:8])
    old.hang()
    pair.promote()
    old.resume()
    with (
        connect_directly(pair.url(old), "test", 2.0) as connection,
        pytest.raises(psycopg.OperationalError, match="no answer"),
    ):
        write.write(connection, DOMAIN, run, 30)
    with psycopg.connect(pair.url(pair.primary), autocommit=True) as connection:
        assert write.write(connection, DOMAIN, run) == (len(run), [])


def test_a_command_finds_the_new_primary_and_names_both_when_there_is_none(pair: PostgresPair) -> None:
    """By the order of the hosts the old one comes first."""
    pair.primary.kill()
    with pytest.raises(ServerAway) as caught:
        postgres.connect()
    first, second = pair.machines
    assert f"{first.address}:{first.port}, {second.address}:{second.port}/sluice" in str(caught.value)
    assert pair.password not in str(caught.value)
    pair.promote()
    with postgres.session() as connection:
        assert connection.info.host == pair.primary.address
