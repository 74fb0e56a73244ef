"""How a PostgreSQL primary, or its standby, is lost; a bridge and workers more than usual go on meanwhile."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from tasks.servers.database import connect_directly
from tests.chaos import options
from tests.integration.postgres_pair import Machine, PostgresPair

# A supervisor of the servers needs so long to be sure that one is lost.
NOTICED_SECONDS = 3.0
# For so long an old primary that nobody has ended is away, and then goes on beside the new one.
AWAY_SECONDS, BESIDE_SECONDS = 8.0, 5.0


@dataclass(frozen=True)
class Failover:
    """A machine is struck, and the other goes on without it; later the first joins again."""

    name: str
    strike: Callable[[Machine], object]
    wake: Callable[[Machine], object] | None = None
    """How an old primary comes back that was not ended before the other was promoted."""
    standby: bool = False
    """Whether the standby is struck."""

    def begin(self, pair: PostgresPair) -> None:
        """Returns when the other machine takes writes without this one."""
        struck = pair.standby if self.standby else pair.primary
        self.strike(struck)
        time.sleep(NOTICED_SECONDS)
        if self.standby:
            pair.go_on_alone()
            return
        if self.wake is None:
            struck.kill()
        pair.promote()

    def end(self, pair: PostgresPair) -> None:
        """The struck machine follows the primary. One that comes back beside it has confirmed no commit."""
        struck = pair.standby
        if self.wake is not None:
            time.sleep(AWAY_SECONDS)
            self.wake(struck)
            time.sleep(BESIDE_SECONDS)
            confirms_nothing(pair, struck)
        struck.reconnect()
        pair.join()


def confirms_nothing(pair: PostgresPair, old: Machine) -> None:
    """Fails if a commit on the old primary, which no standby follows, is confirmed."""
    with connect_directly(pair.url(old), "chaos", patience_seconds=2) as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            connection.execute("CREATE TABLE unconfirmed ()")


KILL = Failover("kill the primary's machine", Machine.kill)
HANG = Failover("hang the primary's machine, and end it before the promotion", Machine.hang)
STOP = Failover("stop the primary in order", Machine.stop)
WAKE = Failover("hang the primary's machine, which wakes up beside the new one", Machine.hang, Machine.resume)
CUT_OFF = Failover(
    "cut the primary's machine off, which comes back beside the new one", Machine.cut_off, Machine.reconnect
)
STANDBY_KILL = Failover("kill the standby's machine", Machine.kill, standby=True)
STANDBY_HANG = Failover("hang the standby's machine", Machine.hang, standby=True)
KINDS = (KILL, HANG, WAKE, CUT_OFF, STANDBY_KILL, STOP, STANDBY_HANG)
# For `make test`.
FEW = (KILL,)


def chosen(count: int) -> list[Failover]:
    """So many, in turn of each kind; 0 means one."""
    return options.in_turn(KINDS, count) or list(FEW)
