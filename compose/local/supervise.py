"""The supervisor: supervisord's configuration, its life, and what it is asked over its Unix socket."""

import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from compose.local.envfile import write_private
from compose.local.errors import StackError
from compose.local.layout import Layout

_ANSWER_SECONDS = 15
# Longer than it gives any of its programs.
_END_SECONDS = 90
_ALREADY_STARTED, _NOT_RUNNING, _BAD_NAME, _ENDING = 60, 70, 10, 6


@dataclass(frozen=True)
class Program:
    """One program under the supervisor, run by a shell script whose process id it keeps."""

    name: str
    script: str
    stop_seconds: int


@dataclass(frozen=True)
class ProgramStatus:
    """The state of a program: supervisord's word for its state, and its start in Unix seconds."""

    name: str
    state: str
    since: int
    problem: str


class Supervisor:
    """The supervisor of one stack. Its methods raise `StackError` when it does not answer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        """Whether supervisord answers; one that is about to end is awaited."""
        deadline = time.monotonic() + _END_SECONDS
        while True:
            try:
                self._call("getState")
            except (OSError, http.client.HTTPException):
                return False
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != _ENDING or time.monotonic() > deadline:
                    raise StackError(f"supervisord does not end: {fault.faultString}") from fault
                time.sleep(0.1)
            else:
                return True

    def start(self, programs: Iterable[Program], environ: Mapping[str, str], *, tied: bool) -> None:
        """Starts supervisord with all programs stopped.

        With `tied` it stops, and everything with it, when the thread that called this ends.
        """
        self.write(programs)
        conf = str(self._layout.supervisor_conf)
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", conf]
        log = self._layout.log("supervisord")
        if self._child is not None:
            self._child.wait(_ANSWER_SECONDS)  # one that was killed meanwhile
        if tied:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *argv, "--nodaemon"],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        else:
            done = subprocess.run(
                argv, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise StackError(f"supervisord did not start: {done.stderr or done.stdout}")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self.running():
            if time.monotonic() > deadline:
                raise StackError(f"supervisord does not answer; see {log}")
            time.sleep(0.05)

    def write(self, programs: Iterable[Program]) -> None:
        """Writes the configuration and each program's script."""
        chosen = list(programs)
        folder = self._layout.supervisor_conf.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for program in chosen:
            write_private(folder / f"{program.name}.sh", program.script)
        write_private(self._layout.supervisor_conf, self._configuration(chosen))

    def reload(self) -> None:
        """Takes over programs that are new or changed in the configuration; a changed one must be stopped."""
        ((added, changed, removed),) = cast("list[list[list[str]]]", self._call("reloadConfig"))
        for name in (*changed, *removed):
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def start_program(self, name: str) -> None:
        """Starts a program without waiting for it; one that runs already is left alone."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise StackError(f"{name} does not start: {fault.faultString}") from fault

    def stop_programs(self, programs: Iterable[str], seconds: float) -> None:
        """Stops the programs, all at once, and returns when they have ended.

        After its own grace supervisord kills a program, so this only raises `StackError` if
        supervisord itself is stuck for `seconds`.
        """
        waiting = list(programs)
        for name in waiting:
            try:
                self._call("stopProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in {_NOT_RUNNING, _BAD_NAME}:
                    raise StackError(f"{name} does not stop: {fault.faultString}") from fault
        deadline = time.monotonic() + seconds
        while left := [s.name for s in self.status() if s.name in waiting and s.state not in _ENDED]:
            if time.monotonic() > deadline:
                raise StackError(f"{', '.join(left)} did not stop in {seconds:.0f} s")
            time.sleep(0.05)
        for name in waiting:
            self._layout.pid(name).unlink(missing_ok=True)

    def status(self) -> list[ProgramStatus]:
        """All programs."""
        rows = cast("list[dict[str, str | int]]", self._call("getAllProcessInfo"))
        return [
            ProgramStatus(str(r["name"]), str(r["statename"]), int(r["start"]), str(r["spawnerr"]))
            for r in rows
        ]

    def shutdown(self, seconds: float) -> None:
        """Ends supervisord and whatever still runs under it."""
        pid = int(cast("int", self._call("getPID")))
        self._call("shutdown")
        deadline = time.monotonic() + seconds
        while _alive(pid):
            if self._child is not None and self._child.poll() is not None:
                break
            if time.monotonic() > deadline:
                raise StackError(f"supervisord (process {pid}) did not end in {seconds:.0f} s")
            time.sleep(0.05)
        self._child = None

    def _call(self, method: str, *arguments: object) -> object:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._layout.socket()))
        with proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def _configuration(self, programs: Iterable[Program]) -> str:
        layout = self._layout
        sections = [
            _section("unix_http_server", {"file": layout.socket(), "chmod": "0600"}),
            _section(
                "supervisord",
                {
                    "logfile": layout.log("supervisord"),
                    "logfile_maxbytes": "10MB",
                    "logfile_backups": 2,
                    "pidfile": layout.supervisor_pid,
                    "childlogdir": layout.log("x").parent,
                    **({"user": "root"} if os.getuid() == 0 else {}),
                },
            ),
            _section(
                "rpcinterface:supervisor",
                {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            ),
        ]
        for program in programs:
            path = layout.supervisor_conf.parent / f"{program.name}.sh"
            sections.append(
                _section(
                    f"program:{program.name}",
                    {
                        # TERM to a program whose supervisord was killed: none goes on unsupervised.
                        "command": shlex.join(["setpriv", "--pdeathsig", "TERM", "/bin/sh", str(path)]),
                        "autostart": "false",
                        "autorestart": "true",
                        "startsecs": 1,
                        # Between starts that fail at once it waits 1 s, 2 s, 3 s …: eight minutes in all.
                        "startretries": 30,
                        "stopsignal": "TERM",
                        "stopwaitsecs": program.stop_seconds,
                        "killasgroup": "true",
                        "redirect_stderr": "true",
                        "stdout_logfile": layout.log(program.name),
                        "stdout_logfile_maxbytes": "10MB",
                        "stdout_logfile_backups": 2,
                    },
                )
            )
        return "\n".join(sections)


_ENDED = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}


def _section(name: str, values: Mapping[str, object]) -> str:
    lines = [f"{key}={value}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        # Kept where the transport looks for it when it is to be closed.
        connection = _UnixConnection(self._path)
        self._connection = str(host), connection
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(str(self._path))
