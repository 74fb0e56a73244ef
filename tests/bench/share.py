"""A share of a core for processes, by a control group of Linux of version 1 or 2."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.bench.cost import family

MOUNTS = Path("/proc/mounts")
# A batch takes many periods, so that its share is even.
PERIOD_US = 50_000
# Linux takes no smaller quota.
LEAST_US = 1000
GONE_SECONDS = 5.0
QUOTA, PERIOD, MAX = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"


class ShareError(Exception):
    """This machine gives processes no share of the CPU; the message says what it lacks."""


class Hierarchy(NamedTuple):
    """Where groups of the CPU controller are made, and the version of control groups."""

    folder: Path
    version: int


def hierarchies(mounts: str) -> list[Hierarchy]:
    """Those that may have the CPU controller, by the text of `/proc/mounts`.

    Version 1 comes first: where its hierarchy has the controller, that of version 2 lacks it.
    """
    found = [line.split() for line in mounts.splitlines()]
    first = [
        Hierarchy(Path(place), 1)
        for _, place, kind, options, *_ in found
        if kind == "cgroup" and "cpu" in options.split(",")
    ]
    return first + [Hierarchy(Path(place), 2) for _, place, kind, *_ in found if kind == "cgroup2"]


def limits(share: float, version: int) -> dict[str, str]:
    """The files of a group for a share of one core, in the order of writing. Raises `ShareError`."""
    quota = round(share * PERIOD_US)
    if quota < LEAST_US:
        raise ShareError(f"a share of {share:g} is too small; {LEAST_US / PERIOD_US:g} cores are the least")
    if version == 1:
        return {PERIOD: str(PERIOD_US), QUOTA: str(quota)}
    return {MAX: f"{quota} {PERIOD_US}"}


def share_of(files: Mapping[str, str]) -> float | None:
    """The share that the files of a group say, or None where it is not limited."""
    quota, period = files[MAX].split() if MAX in files else (files[QUOTA], files[PERIOD])
    return None if quota.strip() in {"max", "-1"} else int(quota) / int(period)


@contextmanager
def limited(name: str, pid: int, share: float) -> Iterator[None]:
    """The process, and all that descend from it, have this share of one core together.

    Afterwards those that still run have no limit. Raises `ShareError`.
    """
    home, group = _made(name)
    try:
        _fill(home, group, pid, share)
        yield
    finally:
        _remove(home, group)


def _made(name: str) -> tuple[Hierarchy, Path]:
    """A new group of the CPU controller."""
    refusals = ["no control groups are mounted"]
    for home in hierarchies(MOUNTS.read_text()):
        group = home.folder / name
        try:
            if home.version != 1:
                (home.folder / "cgroup.subtree_control").write_text("+cpu")
            group.mkdir()
        except OSError as error:
            refusals.append(f"{home.folder}: {error.strerror}")
            continue
        return home, group
    raise ShareError(
        "no share of the CPU can be set, which the measurement of scale needs: it makes control groups with"
        f" the cpu controller, as root ({'; '.join(refusals[1:] or refusals)})"
    )


def _fill(home: Hierarchy, group: Path, pid: int, share: float) -> None:
    files = limits(share, home.version)
    try:
        for file, text in files.items():
            (group / file).write_text(text)
        given = share_of({file: (group / file).read_text() for file in files})
        # The process first: what it starts from then on is in the group.
        for one in (pid, *family(pid)):
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(one))
    except OSError as error:
        raise ShareError(f"{group} takes no share of the CPU: {error}") from error
    if given is None or round(given * PERIOD_US) != round(share * PERIOD_US):
        raise ShareError(f"{group} should give {share:g} of a core, and gives {given}")


def _remove(home: Hierarchy, group: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        for one in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (home.folder / "cgroup.procs").write_text(one)
        try:
            group.rmdir()
        except OSError:
            # Processes that have just ended are in it for a moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
