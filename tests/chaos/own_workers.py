"""Workers of one queue each, which are killed whole and started again, as a supervisor would."""

import os
import shlex
import signal
import subprocess
from collections import Counter
from contextlib import suppress

from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack
from tests.chaos.place import PROJECT

QUEUES = ("process", "db", "notify")


class OwnWorkers:
    """One worker for `process`, one for `db`, and the Procfile's for `notify`, with further settings."""

    def __init__(self, stack: Stack, settings: dict[str, str]) -> None:
        # Three workers, and nobody who asks for their metrics.
        own = {"METRICS_PORT": "0", "NOTIFY_METRICS_PORT": "0"}
        self._environment = {**process_environment(stack.env), **settings, **own}
        self._log = stack.layout.log("own-workers")
        self._running = {queue: self._started(queue) for queue in QUEUES}
        self.ended_alone: Counter[str] = Counter()

    def kill(self, queue: str) -> None:
        """SIGKILL of the main process and of its children, all at once; then it is started again."""
        self._kill(self._running[queue])
        self._running[queue] = self._started(queue)

    def mind(self) -> None:
        """Starts again whatever has ended by itself, and counts it."""
        for queue, process in self._running.items():
            if process.poll() is not None:
                self.ended_alone[queue] += 1
                self.kill(queue)

    def close(self) -> None:
        """Ends them; nothing is left for them to do."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            self._kill(process)

    def _started(self, queue: str) -> subprocess.Popen[bytes]:
        command = shlex.split(read(PROJECT / "Procfile")["notify"])
        if queue != "notify":
            others = {
                "--queues=notify": f"--queues={queue}",
                "--hostname=notify@%h": f"--hostname={queue}@%h",
            }
            assert others.keys() <= set(command), command
            command = [others.get(argument, argument) for argument in command]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=PROJECT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
