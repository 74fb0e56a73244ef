"""Modules that run as programs in processes of their own, whose imports are done already.

A new interpreter imports for a second or two before a command begins. Here a server has done that once, and
each program is a fork of it, with an environment, a folder, a stdin and an exit code of its own. The server
itself has read no setting.
"""

import atexit
import json
import os
import runpy
import shutil
import socket
import socketserver
import subprocess
import sys
import traceback
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO, Any, NoReturn

PRELOADED = (
    *(
        "ingest.admin.audit",
        "ingest.admin.letters.dlq_list",
        "ingest.admin.letters.dlq_replay",
        "ingest.cli.domain",
        "ingest.admin.domains.domain_table",
    ),
    *(
        "ingest.admin.servers.migrate",
        "ingest.admin.postgres",
        "ingest.admin.accounts.accounts",
        "ingest.admin.accounts.passwords",
        "ingest.admin.accounts.provision",
        "ingest.admin.rulesets.rules",
        "ingest.admin.rulesets.rules_files",
        "ingest.admin.alerting.alert_commands",
        "ingest.admin.servers.topics",
    ),
    *("ingest.admin.letters.verify", "tasks.telemetry", "tasks.process", "tasks.store", "tasks.replay"),
    *("celery.bin.celery", "rich.console", "rich.progress"),
)
_READY = b"ready\n"
_SECONDS = 240
_PARENT = os.getppid()


def run(
    *arguments: str, env: Mapping[str, str], cwd: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Does what `python -m` does with the arguments, or `python -c`. Raises `TimeoutError`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(_server()))
        wanted = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "stdin": stdin}
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        with connection.makefile("rb") as answer:
            done: dict[str, Any] = json.loads(answer.read())
    return subprocess.CompletedProcess(arguments, **done)


@lru_cache
def _server() -> Path:
    folder = Path(mkdtemp(prefix="forked-"))
    address = folder / "socket"
    process = subprocess.Popen([sys.executable, "-m", __name__, str(address)], stdout=subprocess.PIPE)

    def end() -> None:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    assert process.stdout is not None
    assert process.stdout.readline() == _READY, "the server of forked programs did not start"
    return address


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != _PARENT:
            sys.exit("the tests are gone")


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        wanted = json.loads(self.rfile.readline())
        with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
            stdin.write(wanted["stdin"].encode())
            stdin.seek(0)
            if (child := os.fork()) == 0:
                _become(wanted, [stdin, stdout, stderr])
            _, status = os.waitpid(child, 0)
            answer = {
                "returncode": os.waitstatus_to_exitcode(status),
                "stdout": _text(stdout),
                "stderr": _text(stderr),
            }
        self.wfile.write(json.dumps(answer).encode())


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _become(wanted: Mapping[str, Any], files: list[IO[bytes]]) -> NoReturn:
    code: Any = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.environ.clear()
        os.environ.update(wanted["env"])
        os.chdir(wanted["cwd"])
        sys.path[:1] = [wanted["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        first, *sys.argv[1:] = wanted["arguments"]
        if first == "-c":
            exec(sys.argv[1], {"__name__": "__main__"})  # noqa: S102 - what the tests' own code says
        else:
            runpy.run_module(first, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)  # noqa: T201
            code = 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for preloaded in PRELOADED:
        import_module(preloaded)
    with _Server(sys.argv[1], _Handler) as server:
        os.write(1, _READY)
        server.serve_forever()
