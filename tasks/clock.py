"""The clock of the alerts: beat sends `tick` every second; it judges absences, what lasts, and calm."""

from collections.abc import Callable
from functools import partial

import psycopg
import structlog
from confluent_kafka import KafkaException

from tasks import registry
from tasks.alerts.absences import end_snoozes, judge_absences
from tasks.alerts.calming import settle
from tasks.alerts.pending import trigger_lasting
from tasks.app import app
from tasks.errors import NotNow
from tasks.outbox import deliver, stream
from tasks.servers import backoff, clocks, turns
from tasks.servers.breaker import CircuitOpen
from tasks.servers.turns import Turn

log = structlog.get_logger()


@app.task(name="tasks.alerts.clock.tick")
def tick() -> None:
    """Judges absences and violations that last, and ends snoozes and flapping that are over.

    If a server is away, the next tick tries again.
    """
    turns.run_if_free("clock", _tick)


def _tick(turn: Turn) -> None:
    now_ms = clocks.now_ms()
    # Each domain separately: a failing table or topic must not hold up the other domains.
    looks: dict[str, Callable[[Turn, int], int]] = {
        domain.qualified("flapping"): partial(settle, domain) for domain in registry.domains()
    }
    looks |= {domain.qualified("absences"): partial(judge_absences, domain) for domain in registry.domains()}
    looks |= {domain.qualified("pending"): partial(trigger_lasting, domain) for domain in registry.domains()}
    looks["snoozes"] = end_snoozes
    changes = sum(_look(name, look, turn, now_ms) for name, look in looks.items())
    if changes:
        deliver.wake()


def _look(name: str, look: Callable[[Turn, int], int], turn: Turn, now_ms: int) -> int:
    if backoff.rests(f"clock:{name}"):
        return 0
    try:
        stream.require_room()
        return look(turn, now_ms)
    except psycopg.Error as error:
        # The breaker takes care of the pauses, and has logged why it is open.
        if not isinstance(error, CircuitOpen):
            log.warning("clock_waits", look=name, error=str(error).strip())
        return 0
    except (NotNow, KafkaException, TimeoutError) as error:
        # The sweep delivers the changes of a part that was committed before the failure.
        log.warning(
            "clock_waits", look=name, error=str(error).strip(), again_in_s=backoff.failed(f"clock:{name}")
        )
        return 0
