"""How a machine of Kafka is lost; a bridge and workers more than usual go on meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.kafka_group import KafkaGroup, Machine

# Longer than the others need to go on without it.
AWAY_SECONDS = 30.0


@dataclass(frozen=True)
class Failover:
    """A machine is struck, and mended after a while."""

    name: str
    victim: Callable[[KafkaGroup], Machine]
    strike: Callable[[Machine], object]
    mend: Callable[[Machine], object]
    seconds: float
    """How long it is away."""


_WHO = {
    "the leader of the most partitions": KafkaGroup.leader,
    "the active controller": KafkaGroup.controller,
}
_HOW: dict[str, tuple[Callable[[Machine], object], Callable[[Machine], object], float]] = {
    "kill": (Machine.kill, Machine.start, 10),
    "hang": (Machine.hang, Machine.resume, AWAY_SECONDS),
    "cut off": (Machine.cut_off, Machine.reconnect, AWAY_SECONDS),
    "stop in order": (Machine.stop, Machine.start, 3),
    "nothing reaches": (Machine.deafen, Machine.reconnect, AWAY_SECONDS),
    "nothing comes from": (Machine.silence, Machine.reconnect, AWAY_SECONDS),
}
KINDS = [Failover(f"{how}: {who}", find, *_HOW[how]) for who, find in _WHO.items() for how in _HOW]
