"""Mosquitto's files: what is in them, and how they are replaced."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from compose.local import mosquitto_auth as auth
from compose.local.mosquitto_auth import Right, User

DEVICE = User("alice/d1", "00" * 64, "abcdefghijkl", 100, False)
SERVICE = User("sluice", "ff" * 64, "mnopqrstuvwx", 100, False)
RIGHTS = [
    Right("sluice", "allow", "subscribe", "users/+/devices/+/telemetry"),
    Right("alice/d1", "allow", "publish", "users/alice/devices/d1/telemetry"),
    Right("sluice", "allow", "publish", "users/+/alerts"),
]


def test_the_password_file_has_a_line_for_each_account() -> None:
    """A line is the name, a colon, and the hash with its iterations and salt."""
    lines = auth.password_file([SERVICE, DEVICE]).splitlines()
    assert [line.split(":")[0] for line in lines] == ["alice/d1", "sluice"]
    assert lines[0].startswith("alice/d1:$7$100$YWJjZGVmZ2hpamts$AAAA")


def test_the_acl_file_grants_what_the_table_allows() -> None:
    """Publishing is `write`, receiving is `read`, each below its account."""
    assert auth.acl_file([SERVICE, DEVICE], RIGHTS) == (
        "topic deny #\n\n"
        "user alice/d1\ntopic write users/alice/devices/d1/telemetry\n\n"
        "user sluice\ntopic write users/+/alerts\ntopic read users/+/devices/+/telemetry\n\n"
    )


def test_an_acl_file_is_never_empty() -> None:
    """Mosquitto takes an empty file as leave to do everything, so there is a line even without rights."""
    assert auth.acl_file([], []) == "topic deny #\n\n"


def test_rights_of_accounts_that_may_not_log_in_are_left_out() -> None:
    """The rights of a disabled account are not written."""
    assert "sluice" not in auth.acl_file([DEVICE], RIGHTS)


def test_denials_and_superusers_are_written_as_such() -> None:
    """`deny` becomes a denial, `all` both directions, and a superuser may do everything."""
    rights = [Right("alice/d1", "deny", "all", "secret/#"), Right("alice/d1", "allow", "all", "own/#")]
    text = auth.acl_file([DEVICE._replace(is_superuser=True)], rights)
    assert "topic readwrite #\n" in text
    assert "topic deny secret/#\n" in text
    assert "topic readwrite own/#\n" in text


@given(st.permutations([SERVICE, DEVICE]), st.permutations(RIGHTS))
def test_the_order_of_the_rows_does_not_matter(users: list[User], rights: list[Right]) -> None:
    """The same rows make the same files, so that nothing is reloaded without a change."""
    assert auth.password_file(users) == auth.password_file([SERVICE, DEVICE])
    assert auth.acl_file(users, rights) == auth.acl_file([SERVICE, DEVICE], RIGHTS)


def test_a_file_is_replaced_only_when_it_differs(tmp_path: Path) -> None:
    """An unchanged file is left alone; a new one belongs to its owner only, and nothing is left beside it."""
    path = tmp_path / "passwords"
    assert auth.write_if_changed(path, "a\n")
    inode = path.stat().st_ino
    assert not auth.write_if_changed(path, "a\n")
    assert path.stat().st_ino == inode
    assert auth.write_if_changed(path, "b\n")
    assert path.read_text() == "b\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [child.name for child in tmp_path.iterdir()] == ["passwords"]


def test_a_process_that_is_no_broker_gets_no_signal(tmp_path: Path) -> None:
    """A stale pid file that names another program, or none, ends nothing."""
    path = tmp_path / "mosquitto.pid"
    assert not auth.reload_broker(path)
    path.write_text("not a number")
    assert not auth.reload_broker(path)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        path.write_text(str(other.pid))
        assert not auth.reload_broker(path, patience=0.2)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_stop_cuts_a_wait_short() -> None:
    """SIGTERM ends a wait at once, and every later one."""
    stop = auth.Stop()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop.install()
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        started = time.monotonic()
        stop.wait(30)
        stop.wait(30)
        assert time.monotonic() - started < 5
        assert stop.requested
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
