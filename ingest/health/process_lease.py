"""Which of several processes of one name acts: the one that has the lease; the others stand by.

The lease is an advisory lock in the database. Its session ends with the process, and PostgreSQL itself ends a
session that has given no sign of life for `LEASE_SECONDS`: that of a process that hangs, or whose machine is
gone. So it needs no clock that two machines agree on, and a Redis that loses its memory does not give it to
a second one.
"""

import math
import socket
import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from tasks.observe.port import Check
from tasks.servers.database import Connection, connect_directly
from tasks.servers.pauses import pauses
from tasks.settings import Settings

log = structlog.get_logger()

LEASE_SECONDS = 10.0
SIGN_SECONDS = 2.0
ASK_SECONDS = 1.0
WAIT_SECONDS = 0.1
# A database that answers later than this is away.
PATIENCE_SECONDS = 5.0
MAX_PAUSE_SECONDS = 5.0
STOP_SECONDS = 5.0
MOST_NAME = 63

TRY = "SELECT pg_try_advisory_lock(hashtext('sluice_process'), hashtext(%s))"
HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND pg_locks.database = pg_stat_activity.datid
    AND datname = current_database()
    AND classid::bigint = hashtext('sluice_process')::bigint & 4294967295
    AND objid::bigint = hashtext(%s)::bigint & 4294967295
"""


class ProcessLease(threading.Thread):
    """A thread that asks for the lease, and keeps it until `stop`, or until `stuck` says that the process is.

    A process that has it goes on while the database is away: nobody else can get it then. If another has it
    afterwards, `lost` says so, for good: such a process ends, and its successor stands by.
    """

    def __init__(self, chosen: Settings, name: str, stuck: Check) -> None:
        super().__init__(name="lease", daemon=True)
        self.acts = False
        self.lost = ""
        self._stuck = stuck
        self._lease = name
        self._database_url = chosen.owners_database_url().get_secret_value()
        self._application = f"sluice-{name.partition(' ')[0]}-lease@{socket.gethostname()}"[:MOST_NAME]
        self._holder = self._away = ""
        self._certain_until = 0.0
        self._stopping = threading.Event()
        self._pauses = pauses(0.1, MAX_PAUSE_SECONDS)

    def run(self) -> None:
        """The thread's work."""
        while not self._stopping.is_set() and not self.lost:
            if self._stuck():
                self._stopping.wait(ASK_SECONDS)
                continue
            try:
                with connect_directly(
                    self._database_url, self._application, patience_seconds=PATIENCE_SECONDS
                ) as connection:
                    self._keep(connection)
            except psycopg.Error as error:
                pause = next(self._pauses)
                self._away = " ".join(str(error).split())
                log.warning("lease_not_asked_for", error=self._away, again_in_s=pause)
                self._stopping.wait(pause)

    def await_turn(
        self, stopping: Callable[[], bool], turn: Callable[[], None], blind_after: float = math.inf
    ) -> None:
        """Returns when this process may act, or is `stopping`; calls `turn` meanwhile.

        It may, too, when the database has not said within `blind_after` seconds who acts.
        """
        blind_at = time.monotonic() + blind_after
        while not self.acts and not stopping():
            turn()
            if not self._holder and time.monotonic() > blind_at:
                log.warning("lease_unknown", lease=self._lease, error=self._away)
                self.acts = True
            time.sleep(WAIT_SECONDS)

    def is_certain(self) -> bool:
        """Whether no other process can have the lease now, because this one has just given a sign of life."""
        return _now() < self._certain_until

    def standby(self) -> str:
        """The remark of a process that stands by; empty when it acts."""
        return "" if self.acts or not self._holder else f"on standby: {self._holder} acts"

    def problem(self) -> str:
        """Why it is not known whether this process may act; empty when it is."""
        if self.acts or self._holder:
            return ""
        return "the database is away, which says whether another process of this kind acts"

    def stop(self) -> None:
        """Gives the lease up."""
        self._stopping.set()
        self.join(STOP_SECONDS)

    def _keep(self, connection: Connection) -> None:
        connection.execute(f"SET idle_session_timeout = '{LEASE_SECONDS:.0f}s'")
        held = False
        while not self._stopping.is_set() and not self._stuck():
            # Before the question: PostgreSQL counts from its answer.
            asked = _now()
            if held:
                connection.execute("SELECT")
            else:
                held = connection.execute(TRY, [self._lease]).fetchone() == (True,)
            self._pauses = pauses(0.1, MAX_PAUSE_SECONDS)
            if held:
                self._note_held(asked)
            elif not self._note_other(connection):
                return
            self._stopping.wait(SIGN_SECONDS if held else ASK_SECONDS)

    def _note_held(self, asked: float) -> None:
        self._certain_until = asked + LEASE_SECONDS
        if not self.acts:
            log.info("lease_taken", lease=self._lease)
        self.acts, self._holder = True, ""

    def _note_other(self, connection: Connection) -> bool:
        """Notes who has the lease; False when this process acted before."""
        row = connection.execute(HOLDER, [self._lease]).fetchone()
        if row is None:
            return True  # it has just been given up
        if self.acts:
            self.lost = f"{row[0]} has the lease of this process, which was away, and acts now"
            return False
        if not self._holder:
            log.info("on_standby", lease=self._lease, acts=str(row[0]))
        self._holder = str(row[0])
        return True


def _now() -> float:
    # It goes on while the machine sleeps, which `time.monotonic` does not.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
