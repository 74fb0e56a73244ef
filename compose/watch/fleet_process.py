"""The simulated fleet as a process of its own, which the live view starts, listens to and ends."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

FIRST_BACK_OFF_SECONDS = 2.0
LONGEST_BACK_OFF_SECONDS = 30.0
END_SECONDS = 15.0


class FleetProcess:
    """Runs `python -m ingest.loadtest.fleet`, and starts it again, with back-off, when it ends on its own.

    `away` says why no fleet publishes at the moment; `totals` adds up what all that were started have done.
    """

    def __init__(self, users: int, devices_per_user: int, rate: float) -> None:
        self.away = "starting"
        self.devices = users * devices_per_user
        self.connected = 0
        self._command = [
            sys.executable,
            *("-m", "ingest.loadtest.fleet", "--with-parent"),
            *("--users", str(users), "--devices-per-user", str(devices_per_user), "--rate", str(rate)),
        ]
        self._ended: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def totals(self) -> Counter[str]:
        """`published`, `acknowledged` and the others of the fleet's totals."""
        return self._ended + self._now

    def start(self) -> None:
        """Starts the fleet."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the fleet and returns when it has removed its credentials, or after a bounded time."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        self._thread.join(END_SECONDS)
        if process is not None and process.poll() is None:
            process.kill()

    def _run(self) -> None:
        back_off = FIRST_BACK_OFF_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            self._live()
            if time.monotonic() - began > 2 * LONGEST_BACK_OFF_SECONDS:
                back_off = FIRST_BACK_OFF_SECONDS
            self._stopping.wait(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF_SECONDS)

    def _live(self) -> None:
        self._ended, self._now = self._ended + self._now, Counter()
        # A session of its own: Ctrl-C reaches the view alone, which then ends the fleet in its order.
        with subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            self._process = process
            if self._stopping.is_set():
                process.terminate()
            complaints = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
            complaints.start()
            assert process.stdout is not None
            for line in process.stdout:
                self._note(json.loads(line))
            complaints.join(1)
        self.connected = 0
        if not self.away and not self._stopping.is_set():
            self.away = f"ended with exit code {process.returncode}"

    def _note(self, said: dict[str, Any]) -> None:
        self.connected = said["connected"]
        self._now = Counter({name: value for name, value in said.items() if isinstance(value, int)})
        if self.connected:
            self.away = ""
        elif said["troubles"]:
            self.away = said["troubles"][0]

    def _listen(self, stderr: Any) -> None:
        for line in stderr:
            if line.strip():
                self.away = line.strip().removeprefix("fleet: ")
