"""Faults of clocks: a process whose clock is wrong, by libfaketime, of Debian's package of that name."""

import os
import signal
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from compose.local import procfile
from compose.local.preparation import process_environment
from tests.chaos.place import PROJECT, Place

STOP_SECONDS = 90


@dataclass(frozen=True)
class Skewed:
    """A process runs with a clock that is wrong by some seconds, in the place of the supervisor's."""

    victim: str
    skew: int
    seconds: float
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"clock of {self.victim} {self.skew:+d} s"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim."""
        return frozenset({self.victim})

    def begin(self, place: Place) -> None:
        """Gently: only the clock is the fault."""
        place.stack.stop(self.victim)
        environment = {
            **process_environment(place.stack.env),
            "SLUICE_ENV_FILE": str(place.stack.layout.env),
            "LD_PRELOAD": str(library()),
            "FAKETIME": f"{self.skew:+d}s",
            # Durations are right: a clock that was set wrong runs as quickly as any other.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        command = f"exec {procfile.read(PROJECT / 'Procfile')[self.victim]}"
        with place.stack.layout.log(f"{self.victim}-skewed").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", command], cwd=PROJECT, env=environment, stdout=log, stderr=log
                )
            )

    def end(self, place: Place) -> None:
        """The process with the right clock takes over."""
        process = self.processes.pop()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            place.stack.start(self.victim)


@cache
def library() -> Path:
    """The library to preload; it is installed where it is missing, which needs root or sudo."""
    if not (found := _found()):
        sudo = [] if os.getuid() == 0 else ["sudo"]
        apt = [*sudo, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
        subprocess.run([*apt, "update"], check=True, capture_output=True)
        install = [*apt, "install", "-y", "--no-install-recommends", "libfaketime"]
        subprocess.run(install, check=True, capture_output=True)
        found = _found()
    assert found, "Debian's package libfaketime was installed and has no libfaketimeMT.so.1"
    return found


def _found() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
