"""The metrics of the running processes show what happened, whichever process is killed meanwhile."""

from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks.observe.catalogue import CATALOGUE
from tests.integration import fleet, pages
from tests.integration.lag import wait_for_no_lag
from tests.integration.pages import value
from tests.integration.production import good, produce


def test_the_workers_totals_are_those_of_all_its_children(pipeline: Stack) -> None:
    """Children that are killed and replaced take nothing along: each message is counted, and counted once."""
    run = uuid4().hex[:8]
    wait_for_no_lag(pipeline)
    names = ("received", "stored", "duplicate")

    def totals() -> dict[str, float]:
        return {name: value(pipeline, "worker", f"sluice_messages_{name}_total") for name in names}

    def refused() -> float:
        return value(pipeline, "worker", "sluice_messages_dead_lettered_total", error_type="InvalidField")

    before, refused_before = totals(), refused()
    produce(pipeline, run, range(5000))
    fleet.wait_until(lambda: totals()["received"] >= before["received"] + 5000, 60, "5,000 to be counted")
    for child in fleet.children(pipeline.pid("worker")):
        fleet.kill(child)
    produce(pipeline, run, range(5000, 10_000))
    fleet.wait_until(lambda: totals()["received"] >= before["received"] + 10_000, 60, "10,000 to be counted")
    grown = {name: total - before[name] for name, total in totals().items()}
    assert grown["stored"] + grown["duplicate"] == len(good(10_000))
    assert refused() - refused_before == 10_000 - len(good(10_000))


@pytest.mark.usefixtures("beat")
def test_every_process_shows_its_metrics(pipeline: Stack) -> None:
    """Each metric is on the page of each process that the list names, from its start or first event on."""
    run = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(run, "d")])
    for number in range(20):
        device.publish(b'{"sequence_id": %d}' % number if number % 2 else b"not json")
    device.await_acknowledged()
    wait_for_no_lag(pipeline)
    for process in pages.VARIABLES:
        fleet.wait_until(
            lambda process=process: not _missing(pipeline, process),  # type: ignore[misc]
            30,
            f"{process} to show {_missing(pipeline, process)}",
        )
    assert value(pipeline, "gateway", "sluice_mqtt_connected") == 1
    assert value(pipeline, "gateway", "sluice_gateway_received_messages_total") >= 20
    assert value(pipeline, "gateway", "sluice_gateway_unacknowledged_messages") == 0
    assert value(pipeline, "bridge", "sluice_bridge_assigned_partitions") == 12
    assert value(pipeline, "bridge", "sluice_bridge_batches_in_flight") == 0
    assert value(pipeline, "worker", "sluice_worker_children") >= 2
    fleet.disconnect([device])


def test_the_lag_is_that_of_kafka(pipeline: Stack) -> None:
    """While the workers are away a bridge that was restarted has the lag of what was sent, and none after."""
    run = uuid4().hex[:8]
    produce(pipeline, run, range(5000, 5600))
    wait_for_no_lag(pipeline)
    pipeline.restart("bridge")
    pipeline.stop("worker")

    def lag() -> float:
        try:
            return sum(v for (name, _), v in pages.samples(pipeline, "bridge").items() if "lag" in name)
        except OSError:  # just started
            return -1

    produce(pipeline, run, range(3000))
    try:
        fleet.wait_until(lambda: lag() == 3000, 30, "a lag of 3000")
    finally:
        pipeline.start("worker")
    fleet.wait_until(lambda: lag() == 0, 60, "no lag")


def _missing(stack: Stack, process: str) -> set[str]:
    try:
        shown = {name for name, _ in pages.samples(stack, process)}
    except OSError:  # just started
        shown = set()
    expected = {
        metric.name + ("_count" if metric.kind == "histogram" else "")
        for metric in CATALOGUE
        # One with labels is known after the first event of its kind.
        if process in metric.processes and not metric.labels
    }
    return expected - shown
