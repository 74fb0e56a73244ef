"""Faults of clocks: of a process, by libfaketime, a package of Debian; of a server, by `clock.c`."""

import os
import shlex
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compose.local.supervise import Supervisor
from tests.chaos.place import PROJECT, Place

PYTHON = PROJECT / "tests" / "chaos" / "skewed"
SOURCE = PYTHON / "clock.c"
# Names the file that says by how much the clock is wrong.
VARIABLE = "WRONG_CLOCK"


@dataclass(frozen=True)
class Skewed:
    """A process runs with a clock that is wrong by some seconds."""

    victim: str
    skew: int
    seconds: float

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
        script = self._script(place)
        script.write_text(script.read_text().replace("\nexec ", f"\n{self._exports()}exec "))
        # Without a probe: a worker whose clock is wrong takes questions for expired.
        Supervisor(place.stack.layout).start_program(self.victim)

    def end(self, place: Place) -> None:
        """The process with the right clock takes over."""
        place.stack.stop(self.victim)
        script = self._script(place)
        script.write_text(script.read_text().replace(self._exports(), ""))
        place.stack.start(self.victim)

    def _script(self, place: Place) -> Path:
        return place.stack.layout.supervisor_conf.parent / f"{self.victim}.sh"

    def _exports(self) -> str:
        values = {
            "LD_PRELOAD": str(library()),
            "FAKETIME": f"{self.skew:+d}s",
            # Durations are right: a clock that was set wrong runs as quickly as any other.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(PYTHON),
        }
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


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


@cache
def wrong_clock() -> Path:
    """The library to preload in a server, compiled once."""
    made = PROJECT / ".local" / "chaos" / "wrong_clock.so"
    made.parent.mkdir(parents=True, exist_ok=True)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang", "tcc"))), None)
    assert compiler, "a wrong clock of a server needs a C compiler on the host, such as tcc"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-fno-builtin", "-O1", "-o", str(made), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return made


def set_wrong(file: Path, seconds: int) -> None:
    """The clock of all processes that have this file is wrong by so many seconds, at once."""
    # In place: they have the file in their memory.
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(struct.pack("l", seconds))
