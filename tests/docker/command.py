"""Commands with a limit of time, and the one way in which anything here fails."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn


class Failed(Exception):
    """The wanted result, and what was found instead."""


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: str = "",
) -> str:
    """A command's output, both streams. Raises `Failed` with its last words, also when it takes longer."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ,
            cwd=folder,
            timeout=seconds,
            check=False,
            # A Ctrl-C ends this program, which then stops and removes what it started.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Failed(f"there is no program {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`{_short(argv)}` did not end within {seconds:.0f} s") from error
    if done.returncode:
        raise Failed(f"`{_short(argv)}` ended with {done.returncode}: {_last(done.stdout)}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Returns, when the condition holds, after how many seconds. Raises `Failed` when it does not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def expect(holds: object, otherwise: str) -> None:
    """Raises `Failed` with the sentence when it does not hold."""
    if not holds:
        raise Failed(otherwise)


def _short(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _last(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-8:])


def interrupt(*_: object) -> NoReturn:
    """A handler of signals, by which a stop cleans up as a Ctrl-C does."""
    raise KeyboardInterrupt


def need_disk(folder: Path, size: int) -> None:
    """Makes the folder. Raises `Failed` when so many bytes are not free there."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise Failed(f"{size >> 30} GB of disk are needed at {folder}, and {free >> 30} GB are free")
