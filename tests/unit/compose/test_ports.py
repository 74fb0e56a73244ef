"""Ports: read, probed, chosen."""

import os
import socket

import pytest

from compose.local import ports
from compose.local.errors import PortTakenError, StackError


@pytest.mark.parametrize("text", ["0", "65536", "-1", "9092x"])
def test_a_wrong_port_is_named(text: str) -> None:
    """A variable that holds no port is an error with its name and its value."""
    with pytest.raises(StackError, match=f"KAFKA_PORT is '{text}'"):
        ports.from_environment({"KAFKA_PORT": text})


def test_an_empty_variable_is_an_unset_one() -> None:
    """`KAFKA_PORT=` means the usual port."""
    assert ports.from_environment({"KAFKA_PORT": ""})["KAFKA_PORT"] == 9092


def test_free_ports_are_different_and_can_be_listened_on() -> None:
    """Every variable gets a port of its own that a server can take."""
    chosen = ports.free({})

    assert len(set(chosen.values())) == len(ports.DEFAULTS)
    assert all(ports.is_free(port) for port in chosen.values())


def test_a_taken_port_names_its_variable_and_its_holder() -> None:
    """The error says which port, for what, who holds it, and what to set."""
    chosen = ports.free({})
    with socket.create_server(("127.0.0.1", chosen["REDIS_PORT"])):
        with pytest.raises(PortTakenError) as caught:
            ports.require_free(chosen, ["REDIS_PORT", "MQTT_PORT"])

        message = str(caught.value)
    assert f"port {chosen['REDIS_PORT']}, wanted for Redis" in message
    assert f"process {os.getpid()} " in message
    assert "set REDIS_PORT" in message
    assert "MQTT_PORT" not in message


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])  # noqa: S104 - a stranger may listen everywhere
def test_a_listener_is_noticed(address: str) -> None:
    """A port is taken when anybody listens on it for 127.0.0.1, also by listening everywhere."""
    with socket.create_server((address, 0)) as server:
        assert not ports.is_free(server.getsockname()[1])
