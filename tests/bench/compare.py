"""This revision and another in turn: on a machine that other work shares, a change is judged pair by pair."""

import json
import os
import signal
import statistics
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.size import Size

# The first run after Kafka's start pays for its compiling; it does not count.
RUNS = 2
# For the benchmark of a revision to stop its servers.
STOP_SECONDS = 90


class RevisionError(Exception):
    """The other revision is not there, cannot be set up, or its benchmark does not end well."""


def compare(project: Path, revision: str, size: Size, console: Console) -> list[dict[str, Any]]:
    """Drains the backlogs by this revision, as it is in the folder, and by the other, pair by pair.

    Each has servers of its own, which stop before the other's start. Returns for each backlog the ratios of
    CPU time a message and of records a second, this revision by the other: of each pair, and their medians.
    Raises `RevisionError`.
    """
    other = checkout(project, revision, console)
    found: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []
    for number in range(size.pairs):
        # Whichever comes first has the quieter or the busier minute; they take turns.
        order = (project, other) if number % 2 == 0 else (other, project)
        measured = {folder: _drains(folder, size) for folder in order}
        found.append((measured[project], measured[other]))
        for this, that in zip(*found[-1], strict=True):
            console.print(
                f"{this['devices']:,} devices: {_cpu_us(this):.0f} µs a message, {_rate(this):,.0f}/s;"
                f" {revision} {_cpu_us(that):.0f} µs, {_rate(that):,.0f}/s"
            )
    return ratios(found)


def checkout(project: Path, revision: str, console: Console) -> Path:
    """A clone of the project at the revision, set up by its own Makefile; kept for the next comparison."""
    try:
        commit = _output("git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", cwd=project)
    except subprocess.CalledProcessError as error:
        raise RevisionError(f"{revision} is not a revision of this repository; see git log") from error
    folder = project / ".local" / "compare" / commit[:12]
    console.print(f"Setting up {revision} in {folder}: minutes at the first time", soft_wrap=True)
    try:
        if not (folder / "Makefile").exists():
            _output("git", "clone", "--quiet", "--no-checkout", str(project), str(folder), cwd=project)
            _output("git", "checkout", "--quiet", commit, cwd=folder)
        _output("make", "setup", cwd=folder)
    except subprocess.CalledProcessError as error:
        raise RevisionError(f"{revision} could not be set up in {folder}: {_end(error)}") from error
    return folder


def ratios(pairs: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """For each backlog the ratios of the pairs, each the drains of this revision and of the other."""
    result = []
    for number, first in enumerate(pairs[0][0]):
        each = [(this[number], that[number]) for this, that in pairs]
        cpu = [_cpu_us(this) / _cpu_us(that) for this, that in each]
        rate = [_rate(this) / _rate(that) for this, that in each]
        result.append(
            {
                "devices": first["devices"],
                "cpu_ratio": statistics.median(cpu),
                "rate_ratio": statistics.median(rate),
                "cpu_ratios": cpu,
                "rate_ratios": rate,
            }
        )
    return result


def _drains(folder: Path, size: Size) -> list[dict[str, Any]]:
    """The result of the revision's own benchmark in the folder: `drain` of its latest.json."""
    results = folder / ".local" / "bench-pair"
    figures = results / "latest.json"
    figures.unlink(missing_ok=True)
    options = [f"--records={size.records}", "--devices", *map(str, size.devices), f"--pairs={RUNS}"]
    options += ["--rules" if size.rules else "--no-rules", f"--dir={results}"]
    try:
        _output(".venv/bin/python", "-m", "tests.bench", "--only=drain", *options, cwd=folder)
    except subprocess.CalledProcessError as error:
        raise RevisionError(f"the benchmark in {folder} failed: {_end(error)}") from error
    drains: list[dict[str, Any]] = json.loads(figures.read_text())["drain"]
    return drains


def _cpu_us(drains: dict[str, Any]) -> float:
    return float(sum(drains["runs"][-1]["cpu_us"].values()))


def _rate(drains: dict[str, Any]) -> float:
    return float(drains["runs"][-1]["per_second"])


def _output(*command: str, cwd: Path) -> str:
    # A revision has its own environment, which this one's must not replace.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "MAKEFLAGS"}
    }
    # A session of its own: a Ctrl-C of the terminal comes to it once, from here, and it stops its servers.
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            stdout, stderr = child.communicate()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            try:
                child.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command, stdout, stderr)
    return stdout.strip()


def _end(error: subprocess.CalledProcessError) -> str:
    return "\n".join([*error.stdout.splitlines(), *error.stderr.splitlines()][-10:])
