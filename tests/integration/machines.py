"""Machines that servers run on, which a test may kill, hang, cut off, trouble and bring back.

A machine is an address of the loopback network, reached through proxies, by its fellows too.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from compose.local import servers
from compose.local.layout import Layout
from tests.chaos import clocks, disks
from tests.chaos.proxy import Proxy
from tests.integration import fleet
from tests.integration.fleet import wait_until

# What is promised to be survived without another taking over.
LOST_SHARE = 0.05
LATE_SECONDS = 0.2


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

    def has_ended(self) -> bool:
        """Whether it ran, and ended by itself."""
        return self.running is not None and self.running.poll() is not None

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


@dataclass
class Machine:
    """One address; `to` are the ways to it, `back` those from it to its fellows."""

    layout: Layout = field(kw_only=True)
    processes: Sequence[Process] = field(kw_only=True)
    to: list[Proxy] = field(default_factory=list, kw_only=True)
    back: list[Proxy] = field(default_factory=list, kw_only=True)

    def prepare_troubles(self, disk_bytes: int) -> None:
        """Gives it a clock that can be wrong and a disk that can be full; called before anything runs."""
        disks.mount(self.layout.base / "data", disk_bytes)
        library = clocks.wrong_clock()
        clocks.set_wrong(self.layout.run / "clock", 0)
        for process in self.processes:
            folder = self.layout.conf(process.server.name)
            (folder / library.name).write_bytes(library.read_bytes())
            told = f"LD_PRELOAD=/srv/conf/{library.name} {clocks.VARIABLE}=/srv/run/clock"
            process.server = replace(process.server, command=f"env {told} {process.server.command}")

    def close(self) -> None:
        """Kills what runs, and leaves no proxy and no mount."""
        self.resume()
        self.kill()
        # A way back to one is a way to another.
        for proxy in self.to:
            proxy.close()
        disks.release(self.layout.base)

    def kill(self) -> None:
        """The machine is gone, at once."""
        for process in self.processes:
            process.kill()

    def start(self) -> None:
        """The machine comes back, with its disk."""
        for process in self.processes:
            process.start()

    def hang(self) -> None:
        """Connections stay open, and nobody answers."""
        for process in self.processes:
            process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on, and knows nothing of what has happened meanwhile."""
        for process in self.processes:
            process.signal(signal.SIGCONT)

    def cut_off(self) -> None:
        """Nothing arrives that is sent to it, or by it."""
        self.deafen()
        self.silence()

    def deafen(self) -> None:
        """Nothing arrives that is sent to it, requests and answers; what it sends does."""
        for proxy in self.to:
            proxy.stall(back=False)
        for proxy in self.back:
            proxy.stall(there=False)

    def silence(self) -> None:
        """Nothing arrives that it sends, requests and answers; what is sent to it does."""
        for proxy in self.to:
            proxy.stall(there=False)
        for proxy in self.back:
            proxy.stall(back=False)

    def lose_packets(self) -> None:
        """A share of the packets to it and from it is lost."""
        for proxy in (*self.to, *self.back):
            proxy.lose(LOST_SHARE)

    def answer_late(self) -> None:
        """What it sends, requests and answers, arrives later."""
        for proxy in self.to:
            proxy.delay(LATE_SECONDS, there=False)
        for proxy in self.back:
            proxy.delay(LATE_SECONDS, back=False)

    def reconnect(self) -> None:
        """What was sent arrives, and all that follows at once and whole."""
        for proxy in (*self.to, *self.back):
            proxy.flow()

    def set_clock(self, seconds: int) -> None:
        """Its clock is wrong by so much from now on; durations are right."""
        clocks.set_wrong(self.layout.run / "clock", seconds)

    def fill_disk(self) -> None:
        """Nothing is left on its disk."""
        disks.fill(self.layout.base / "data")

    def make_room(self) -> None:
        """There is room again, and what has ended for want of it is started again."""
        disks.make_room(self.layout.base / "data")
        for process in self.processes:
            if process.has_ended():
                process.start()
