"""`sluice health` says what the process says of itself, and fails when it is not well."""

from functools import partial

import pytest

from ingest.admin.servers import probe
from ingest.admin.servers.probe import Unwell, ask
from tasks.observe.port import Monitoring, Pulse, first_problem
from tasks.settings import Settings


def test_a_process_that_is_well_says_so() -> None:
    """Liveness and readiness are asked for apart; what is wrong is the error's text."""
    served = Monitoring("bridge", None, ready=lambda: "Kafka is away")
    try:
        chosen = Settings(bridge_metrics_port=served.port)
        assert ask(chosen, "bridge", ready=False) == "ok"
        with pytest.raises(Unwell, match="bridge reports: Kafka is away"):
            ask(chosen, "bridge", ready=True)
    finally:
        served.close()


def test_a_process_that_is_not_there_is_unwell() -> None:
    """Nobody listens, or the settings say that nobody shall."""
    served = Monitoring("bridge", None)
    served.close()
    with pytest.raises(Unwell, match="does not answer"):
        ask(Settings(beat_metrics_port=1), "beat", ready=False)
    with pytest.raises(Unwell, match="has no port"):
        ask(Settings(metrics_port=0), "worker", ready=False)
    assert probe.address(Settings(metrics_host="10.0.0.1"), "worker", ready=True) == (
        "http://10.0.0.1:9000/readyz"
    )


def test_the_processes_of_other_containers_are_asked_at_their_own_hosts() -> None:
    """`{process}` becomes the name of the process, also for Flower; without it all have one host."""
    chosen = Settings(process_host="sluice-{process}", metrics_host="0.0.0.0")  # noqa: S104 - as in a container
    asked = partial(probe.address, chosen, host=chosen.process_host)
    assert asked("bridge", ready=False) == "http://sluice-bridge:9002/healthz"
    assert asked("flower", ready=False) == "http://sluice-flower:5555/healthcheck"
    assert probe.address(chosen, "worker", ready=True, host="machine-2") == "http://machine-2:9000/readyz"
    # The check of a container asks its own process.
    assert probe.address(chosen, "worker", ready=True) == "http://127.0.0.1:9000/readyz"


def test_a_loop_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time without a turn the process is not live any more; a turn makes it live again."""
    now = [100.0]
    monkeypatch.setattr("tasks.observe.port.time.monotonic", lambda: now[0])
    pulse = Pulse("the bridge", 30)
    now[0] += 29
    assert pulse.check() == ""
    now[0] += 2
    assert first_problem(pulse.check, lambda: "other")() == "the bridge has been stuck for 31 s"
    pulse.turn()
    assert pulse.check() == ""
    assert first_problem(pulse.check, lambda: "other")() == "other"
