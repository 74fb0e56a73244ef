"""A process that is started again when it ends, as a supervisor does it with Sluice's."""

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import PROJECT

MOST_STARTS = 50
STOP_SECONDS = 30


def end(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """SIGTERM, and SIGKILL after so many seconds; returns whether it ended by the first."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


@contextmanager
def restarted(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[None]:
    """The command runs during the block, and again one second after it has ended, up to 50 times.

    Its output is appended to `log`. At the end it gets SIGTERM and 30 s, then SIGKILL.
    """
    over = threading.Event()
    with log.open("ab") as output:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, env=env, cwd=PROJECT, stdout=output, stderr=output)

        def keep(process: subprocess.Popen[bytes]) -> None:
            for _ in range(MOST_STARTS):
                while process.poll() is None and not over.wait(0.2):
                    pass
                if over.wait(1):
                    break
                process = start()
            end(process, STOP_SECONDS)

        keeper = threading.Thread(target=keep, args=(start(),), name=f"keeper of {log.stem}")
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
