"""Sluice's processes, each of one revision or the other, on the servers of one stack."""

import os
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.local.procfile import read
from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.restarted import end

START_SECONDS, STOP_SECONDS = 120.0, 90.0
# A supervisor starts again what has ended after about this long.
LOOK_SECONDS = 1.0
PORTS = {
    "gateway": "GATEWAY_METRICS_PORT",
    "bridge": "BRIDGE_METRICS_PORT",
    "control": "CONTROL_METRICS_PORT",
    "worker": "METRICS_PORT",
    "beat": "BEAT_METRICS_PORT",
}
# Of these there are two, so that both revisions work side by side; the second has no port.
TWICE = ("bridge", "worker")


@dataclass
class Running:
    """A process, and the checkout that it is from."""

    folder: Path
    process: subprocess.Popen[bytes]


class Processes:
    """Runs them, and starts again what ends by itself, as a supervisor does; counts that by name."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._mind, name="supervisor", daemon=True)
        self.ended: Counter[str] = Counter()

    def begin(self, folder: Path) -> None:
        """Starts all of them, from this checkout, and returns when they are ready."""
        for name in (*(f"{name} 2" for name in TWICE), *reversed(PORTS)):
            self._start(name, folder)
        for name in PORTS:
            self._await_ready(name)
        self._thread.start()

    def replace(self, name: str, folder: Path) -> None:
        """Stops one gently and starts that of the other checkout; returns when it is ready."""
        with self._lock:
            self._stop(name)
            self._start(name, folder)
        if name in PORTS:
            self._await_ready(name)

    def close(self) -> None:
        """Stops all of them, beginning at the source of the messages."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for name in sorted(self._running, key=lambda name: list(PORTS).index(name.split()[0])):
            self._stop(name)

    def _start(self, name: str, folder: Path) -> None:
        kind, _, second = name.partition(" ")
        command = read(folder / "Procfile")[kind]
        if second and kind == "worker":
            command += " --hostname=second@%h"
        with self._stack.layout.log(name.replace(" ", "-")).open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=folder,
                env=environment(self._stack, folder, {PORTS[kind]: "0"} if second else {}),
                stdout=log,
                stderr=log,
            )
        self._running[name] = Running(folder, process)

    def _stop(self, name: str) -> None:
        if not end(self._running[name].process, STOP_SECONDS):
            self.ended[f"{name} killed"] += 1

    def _await_ready(self, name: str) -> None:
        url = f"http://127.0.0.1:{self._stack.env[PORTS[name]]}/readyz"

        def ready() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return int(answer.status) == 200
            except OSError:
                return False

        fleet.wait_until(ready, START_SECONDS, f"{name} to be ready")

    def _mind(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            with self._lock:
                for name, one in list(self._running.items()):
                    if one.process.poll() is not None:
                        self.ended[name] += 1
                        time.sleep(LOOK_SECONDS)
                        self._start(name, one.folder)


def environment(stack: Stack, folder: Path, others: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program of the checkout's."""
    # This run's own checkout must not be found in its place.
    kept = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, **stack.env, **others, "PATH": path}
