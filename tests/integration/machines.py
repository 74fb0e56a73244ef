"""Servers of machines that a test may kill, hang and bring back."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from compose.local import servers
from compose.local.layout import Layout
from tests.integration import fleet
from tests.integration.fleet import wait_until


@dataclass
class Process:
    """A server of a machine, with all processes that it starts."""

    server: servers.Server
    layout: Layout
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it with the configuration that it has by now."""
        script = self.layout.conf(self.server.name) / "start.sh"
        script.write_text(servers.script(self.server, self.layout))
        with self.layout.log(self.server.name).open("ab") as log:
            self.running = subprocess.Popen(
                ["/bin/sh", str(script)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait_until(lambda: self._pid() is not None, 30, f"{self.server.name} to start")

    def stop(self, number: signal.Signals) -> None:
        """Asks it alone to end by this signal, and returns when it has."""
        if self.running is not None and (pid := self._pid()) is not None:
            os.kill(pid, number)
            self.running.wait(60)
            self.running = None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it and to its children, if it runs."""
        if (pid := self._pid()) is None:
            return
        # A parent that is stopped makes no further children.
        os.kill(pid, signal.SIGSTOP)
        for one in (*fleet.children(pid), pid):
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.running is None:
            return
        self.signal(signal.SIGKILL)
        self.running.wait(20)
        self.running = None

    def _pid(self) -> int | None:
        with suppress(FileNotFoundError, ValueError):
            return int(self.layout.pid(self.server.name).read_text())
        return None
