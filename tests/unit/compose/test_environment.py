"""Some servers are the stack's own, and others the user's."""

import socket
from pathlib import Path

import pytest

from compose.local import envfile, environment
from compose.local.errors import StackError
from compose.local.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A stack's folder."""
    layout = Layout(tmp_path)
    layout.make()
    return layout


def _own(values: dict[str, str]) -> list[str]:
    return [server.name for server in environment.own_servers(values)]


def test_without_wishes_all_servers_are_ours_on_the_usual_ports(layout: Layout) -> None:
    """An empty environment means servers of our own, at the ports that everybody expects."""
    values = environment.make(layout, {}, free_ports=False)

    assert _own(values) == ["postgres", "pgbouncer", "redis", "kafka", "mosquitto"]
    assert values["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092"
    assert (values["MQTT_HOST"], values["MQTT_PORT"]) == ("127.0.0.1", "1883")
    assert values["DATABASE_URL"].endswith("@127.0.0.1:6432/sluice")
    assert values["DATABASE_DIRECT_URL"].endswith("@127.0.0.1:5432/sluice")
    assert values["REDIS_URL"].endswith("@127.0.0.1:6379/0")


def test_passwords_last(layout: Layout) -> None:
    """The next start of the same stack uses the same passwords."""
    first = environment.make(layout, {}, free_ports=False)

    assert environment.make(layout, {}, free_ports=False) == first


def test_a_server_of_the_users_is_taken_as_it_is(layout: Layout) -> None:
    """A set address is used unchanged, and no such server is started."""
    url = "redis://:secret@redis.example:6380/3"

    values = environment.make(layout, {"REDIS_URL": url}, free_ports=False)

    assert values["REDIS_URL"] == url
    assert _own(values) == ["postgres", "pgbouncer", "kafka", "mosquitto"]


def test_a_broker_of_the_users_needs_a_login(layout: Layout) -> None:
    """MQTT_HOST alone is an error that names what is missing; with a login the broker is used."""
    with pytest.raises(StackError, match="MQTT_USERNAME"):
        environment.make(layout, {"MQTT_HOST": "mqtt.example"}, free_ports=False)

    login = {"MQTT_HOST": "mqtt.example", "MQTT_USERNAME": "me", "MQTT_PASSWORD": "mine"}
    values = environment.make(layout, login, free_ports=False)

    assert values.items() >= {**login, "MQTT_PORT": "1883"}.items()
    assert "mosquitto" not in _own(values)


def test_an_exported_env_file_is_no_wish(layout: Layout) -> None:
    """After `set -a; . .local/env` the same servers are still ours, for this stack and for another."""
    exported = environment.make(layout, {}, free_ports=False)
    other = Layout(layout.base / "other")
    other.make()

    assert environment.make(layout, exported, free_ports=False) == exported
    assert _own(environment.make(other, exported, free_ports=True)) == _own(exported)


def test_one_address_changed_after_the_export_is_a_wish(layout: Layout) -> None:
    """Only the user's own settings over an exported env file count."""
    exported = environment.make(layout, {}, free_ports=False)

    values = environment.make(
        layout, {**exported, "DATABASE_URL": "postgresql://db.example/x"}, free_ports=False
    )

    assert _own(values) == ["redis", "kafka", "mosquitto"]
    assert values["DATABASE_DIRECT_URL"] == values["DATABASE_URL"]


def test_a_database_of_the_users_may_be_reached_in_two_ways(layout: Layout) -> None:
    """Behind a PgBouncer of the user's own, the direct address is the user's too."""
    theirs = {
        "DATABASE_URL": "postgresql://pool.example/x",
        "DATABASE_DIRECT_URL": "postgresql://db.example/x",
    }
    assert environment.make(layout, theirs, free_ports=False).items() >= theirs.items()


def test_ports_follow_their_variables(layout: Layout) -> None:
    """Each port is the one of its variable, in the address as well."""
    values = environment.make(layout, {"KAFKA_PORT": "19092", "MQTT_PORT": "2883"}, free_ports=False)

    assert values["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
    assert values["MQTT_PORT"] == "2883"
    assert "mosquitto" in _own(values)


def test_free_ports_stay_while_they_are_free(layout: Layout) -> None:
    """A stack on free ports comes back where it was, except where another program is now."""
    first = environment.make(layout, {}, free_ports=True)
    with layout.env.open("w") as file:
        file.writelines(f"{key}={value}\n" for key, value in first.items())
    assert environment.make(layout, {}, free_ports=True) == first

    with socket.create_server(("127.0.0.1", int(first["REDIS_PORT"]))):
        second = environment.make(layout, {}, free_ports=True)

    assert second["REDIS_PORT"] != first["REDIS_PORT"]
    assert second["KAFKA_PORT"] == first["KAFKA_PORT"]


def test_domains_last_until_others_are_named(layout: Layout) -> None:
    """A start that names none keeps those of the start before, and every process reads them."""
    values = environment.make(layout, {"DOMAINS": "tasks.telemetry,examples.logistics"}, free_ports=False)
    assert values["DOMAINS"] == "tasks.telemetry,examples.logistics"
    envfile.write(layout.env, values)
    assert environment.make(layout, {}, free_ports=False)["DOMAINS"] == values["DOMAINS"]
    other = environment.make(layout, {"DOMAINS": "tasks.telemetry"}, free_ports=False)
    assert other["DOMAINS"] == "tasks.telemetry"
