"""A full disk is undone whatever fails: the data is at its place, nothing is mounted, the server runs."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compose.local.layout import Layout
from tests.chaos import disks
from tests.chaos.place import Place

STEPS = ("true", "mkfs.ext4", "mount", "rmdir", "cp", "dd", "start", "nothing")


class Machine:
    """A server and the commands of root, of which one fails; what is mounted is a folder with a name."""

    def __init__(self, base: Path, fails: str) -> None:
        self.layout = Layout(base)
        self.mounted: set[Path] = set()
        self.running = True
        self._fails = fails

    def stop(self, _name: str) -> None:
        """Ends the server."""
        self.running = False

    def start(self, name: str) -> None:
        """The first start may be the one that fails."""
        assert self.layout.data(name).exists()
        self._fail("start")
        self.running = True

    def as_root(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Does what the command does, to folders."""
        del check
        self._fail(command[0])
        target = Path(command[-1])
        match command[0]:
            case "mount":
                self.mounted.add(target)
            case "umount":
                self.mounted.remove(target)
                shutil.rmtree(target)
                target.mkdir()
            case "cp":
                shutil.copytree(command[2], target, dirs_exist_ok=True)
            case "rm":
                shutil.rmtree(target, ignore_errors=True)
        return subprocess.CompletedProcess(command, 0, b"", b"No space left on device")

    def _fail(self, step: str) -> None:
        if step == self._fails:
            self._fails = ""
            raise AssertionError(f"{step} fails")


@pytest.mark.parametrize("fails", STEPS)
def test_a_full_disk_is_undone_whatever_fails(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of its beginning fails once."""
    machine = Machine(tmp_path, fails)
    monkeypatch.setattr(disks, "as_root", machine.as_root)
    monkeypatch.setattr(Path, "is_mount", lambda path: path in machine.mounted)
    data = machine.layout.data("kafka")
    data.mkdir(parents=True)
    (data / "log").write_text("records")
    place = cast(Place, cast(Any, SimpleNamespace(stack=machine)))
    fault = disks.DiskFull("kafka", 1)
    try:
        fault.begin(place)
        assert fails == "nothing"
        (data / "log").write_text("more records")
    except AssertionError:
        assert fails != "nothing"
    fault.end(place)
    assert (data / "log").read_text() == ("more records" if fails == "nothing" else "records")
    assert [path.name for path in data.parent.iterdir()] == ["kafka"]
    assert machine.running
    assert not machine.mounted


def test_what_a_killed_run_left_mounted_is_unmounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is."""
    machine = Machine(tmp_path, "nothing")
    monkeypatch.setattr(disks, "as_root", machine.as_root)
    monkeypatch.setattr(Path, "is_mount", lambda path: path in machine.mounted)
    for name in ("kafka", "postgres"):
        machine.layout.data(name).mkdir(parents=True)
    machine.mounted = {machine.layout.data("kafka"), tmp_path.parent}
    disks.release(tmp_path)
    assert machine.mounted == {tmp_path.parent}
