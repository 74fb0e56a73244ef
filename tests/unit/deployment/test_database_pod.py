"""The manifest of TimescaleDB for a local cluster: one server at a time on its volume."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from compose.local.layout import PROJECT
from tests.docker.command import wait_until

VOLUME = "/var/lib/postgresql/data"
# A server whose first process is gone, and which still has a process that writes.
SERVER = """#!/bin/sh
echo "begins $1" >> began
(while [ ! -e ended ]; do sleep 0.02; done) &
"""


@pytest.fixture
def command() -> list[str]:
    """The manifest's own."""
    documents = yaml.safe_load_all((PROJECT / "helm-values" / "servers" / "timescaledb.yaml").read_text())
    (pod,) = (one["spec"]["template"]["spec"] for one in documents if one["kind"] == "StatefulSet")
    (container,) = pod["containers"]
    assert VOLUME in [mount["mountPath"] for mount in container["volumeMounts"]]
    found: list[str] = container["command"]
    return found


@pytest.fixture
def started(command: list[str], tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two containers on one volume, the second after the first has a server."""
    script = tmp_path / "docker-entrypoint.sh"
    script.write_text(SERVER)
    script.chmod(0o755)
    argv = [word.replace(VOLUME, str(tmp_path)) for word in command]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with ExitStack() as held:
        processes = []
        for count in (1, 2):
            processes.append(held.enter_context(subprocess.Popen(argv, cwd=tmp_path, env=environ)))
            # Before the wait for its end.
            held.callback((tmp_path / "ended").touch)
            wait_until((tmp_path / "began").exists, 10, f"server {count} to begin")
        yield processes


def test_a_server_waits_for_the_end_of_all_processes_of_the_one_before(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Also of those that outlive the first process of a container."""
    first, second = started
    assert first.wait(10) == 0
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    assert (tmp_path / "began").read_text() == "begins postgres\n"
    (tmp_path / "ended").touch()
    assert second.wait(10) == 0
    assert (tmp_path / "began").read_text() == "begins postgres\n" * 2
