"""The scripts that the supervisor runs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from compose.local import envfile, programs, servers
from compose.local.layout import PROJECT, Layout

_SERVE = PROJECT / "compose" / "local" / "serve.sh"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A stack's folder with an awkward name."""
    layout = Layout(tmp_path / "it's a stack")
    layout.make()
    return layout


def _eventually(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)
    return path.read_text().strip()


def test_a_process_has_the_env_files_values_and_its_own_pid_file(layout: Layout) -> None:
    """The command sees the values as they are at its start, and the pid file holds the command's own pid."""
    envfile.write(layout.env, {"GREETING": "good morning"})
    script = programs.process_script(layout, "x", 'sh -c \'echo "$GREETING" $$ "$SLUICE_ENV_FILE"\'')

    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == f"good morning {layout.pid('x').read_text().strip()} {layout.env}"


def test_a_process_ends_what_its_killed_predecessor_left(layout: Layout) -> None:
    """Children that outlived a main process do not go on beside the new one."""
    envfile.write(layout.env, {})
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    layout.pid("x").write_text(f"{orphan.pid}\n")

    subprocess.run(["/bin/sh", "-c", programs.process_script(layout, "x", "true")], check=True)

    assert orphan.wait(10) == -signal.SIGKILL


def test_a_template_without_a_value_is_an_error() -> None:
    """A name in a configuration that nothing fills is found before the server starts."""
    assert servers.fill("port ${port}", {"port": "1"}) == "port 1"
    with pytest.raises(KeyError):
        servers.fill("port ${prot}", {"port": "1"})


@pytest.mark.parametrize("server", servers.SERVERS, ids=lambda server: server.name)
def test_configurations_are_filled_and_private(server: servers.Server, layout: Layout) -> None:
    """Every `${name}` of every server's configuration has a value, and others cannot read the result."""
    ports = {"KAFKA_CONTROLLER_PORT": 2, "POSTGRES_PORT": 3, **dict.fromkeys(server.ports, 1)}
    servers.configure(server, layout, ports)

    for path in layout.conf(server.name).iterdir():
        assert "${" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


def test_a_stopped_server_gets_its_own_signal_and_is_waited_for(tmp_path: Path) -> None:
    """TERM reaches the enclosed server as the signal it stops gently by, and the wrapper ends after it."""
    pid, told = tmp_path / "pid", tmp_path / "told"
    server = (
        f'trap "sleep 0.3; echo gently > {told}; exit 0" USR1; echo $$ > {pid}; while :; do sleep 0.05; done'
    )
    # Another shell between the two, deaf like bwrap.
    between = ["/bin/sh", "-c", 'trap "" TERM; /bin/sh -c "$1"; exit 7', "sh", server]
    wrapper = subprocess.Popen([str(_SERVE), str(pid), "USR1", *between])
    _eventually(pid)

    wrapper.terminate()

    assert wrapper.wait(10) == 7
    assert told.read_text() == "gently\n"
    assert not pid.exists()


def test_a_killed_server_ends_its_wrapper(tmp_path: Path) -> None:
    """Killing the pid of the pid file is enough for the supervisor to see an end, which is not a success."""
    pid = tmp_path / "pid"
    between = ["/bin/sh", "-c", f"sh -c 'echo $$ > {pid}; exec sleep 60'; exit $?"]
    wrapper = subprocess.Popen([str(_SERVE), str(pid), "TERM", *between])

    os.kill(int(_eventually(pid)), signal.SIGKILL)

    assert wrapper.wait(10) == 128 + signal.SIGKILL
    assert not pid.exists()
