"""The stand-ins of `make docker-test`: for every service, with the settings that compose.yaml gives them."""

import re
from pathlib import Path

import pytest

from compose.local import mosquitto_auth
from compose.local.console import Report
from compose.local.layout import PROJECT
from ingest.admin.accounts.passwords import hash_password
from tests import page_table
from tests.docker import images, table
from tests.docker.command import Failed, run
from tests.docker.project import PROCESSES
from tests.docker.standins import emqx, redpanda
from tests.unit.deployment.documents import SERVICES


def test_every_service_is_ours_or_has_a_stand_in_or_is_named_as_not_proved() -> None:
    """A new service is in one of the lists, and what is in none of them on the page."""
    assert set(SERVICES) == {*PROCESSES, "setup", *images.SERVERS, *images.ABSENT}
    targets = re.findall(r"^FROM \S+ AS (\w+)", (images.STANDINS / "Dockerfile").read_text(), re.MULTILINE)
    assert set(targets) == {"programs", *images.SERVERS}
    page = (PROJECT / "docs" / "deploy.md").read_text().lower()
    unproved = page.partition("stand-ins cannot prove")[2].partition("kill -9")[0]
    for name in (*images.ABSENT, "redpanda", "emqx"):
        assert name.removeprefix("otel-") in unproved, name


def test_kafka_listens_as_redpanda_is_told_to() -> None:
    """The listeners of compose.yaml, and every other setting of the local stack's broker."""
    template = (PROJECT / "compose" / "local" / "conf" / "server.properties").read_text()
    command = [word.replace("${HOST_KAFKA_PORT:-19092}", "29092") for word in SERVICES["redpanda"]["command"]]
    text = redpanda.properties(template, command)
    found = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert found["listeners"] == (
        "INTERNAL://0.0.0.0:9092,EXTERNAL://0.0.0.0:19092,CONTROLLER://127.0.0.1:9095"
    )
    assert found["advertised.listeners"] == "INTERNAL://redpanda:9092,EXTERNAL://localhost:29092"
    assert found["inter.broker.listener.name"] == "INTERNAL"
    assert found["auto.create.topics.enable"] == "false"
    assert "$" not in text


def test_mosquitto_in_emqxs_place_knows_the_same_accounts_as_the_local_stack() -> None:
    """The same lines as the local stack writes, from the rows that psql prints."""
    hashed = hash_password("secret", "twelve-chars")
    users = [mosquitto_auth.User("device:ada:fridge", hashed, "twelve-chars", 100, False)]
    rows = [[one.username, one.password_hash, one.salt] for one in users]
    assert emqx.password_file(rows, "100") == mosquitto_auth.password_file(users)
    rights = [
        mosquitto_auth.Right("device:ada:fridge", "allow", "publish", "users/ada/devices/fridge/telemetry"),
        mosquitto_auth.Right("device:ada:fridge", "deny", "all", "users/ada/secret"),
    ]
    ours = emqx.acl_file([list(one) for one in rights])
    theirs = mosquitto_auth.acl_file(users, rights)
    assert [line for line in ours.splitlines() if line] == [line for line in theirs.splitlines() if line]


def test_the_table_says_what_failed_and_goes_between_its_marks(tmp_path: Path) -> None:
    """A failed proof is a line that says so, and the run does not hold; the rest of the page stays."""
    lines = table.Table(Report())
    assert lines.prove("One", lambda: "found | it")
    assert lines.holds

    def fails() -> str:
        raise Failed("not\nthere")

    assert not lines.prove("Two", fails)
    assert not lines.holds
    assert "| One | found \\| it | 0 |" in lines.markdown()
    assert "| Two | **fails**: not there | 0 |" in lines.markdown()
    some = table.Table(Report(), only=("TLS", "pool"))
    for name in ("By way of the pool", "By MQTT over TLS", "Flower's login"):
        assert some.prove(name, lambda: "found")
    assert some.prove("Accounts", lambda: "found", needed=True)
    assert [line.name for line in some.lines] == ["By way of the pool", "By MQTT over TLS", "Accounts"]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    page_table.write(page, "a", lines.markdown())
    assert page.read_text() == f"before\n<!-- a -->\n{lines.markdown()}\n<!-- /a -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        page_table.write(page, "a", "")


def test_a_command_ends_in_time_and_tells_its_last_words() -> None:
    """Nothing waits for ever, and what failed says why."""
    assert run(["sh", "-c", "cat; echo two >&2"], seconds=5, stdin="one\n") == "one\ntwo\n"
    with pytest.raises(Failed, match=r"ended with 3: .*the reason"):
        run(["sh", "-c", "echo the reason; exit 3"], seconds=5)
    with pytest.raises(Failed, match="did not end within 0 s"):
        run(["sleep", "5"], seconds=0.1)
    with pytest.raises(Failed, match="there is no program"):
        run(["no-such-program"], seconds=1)
