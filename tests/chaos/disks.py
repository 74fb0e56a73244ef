"""Faults of disks: a server whose file system is full."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.place import Place

ROOM_BYTES = 256 * 2**20
FILLER = "filler"


@dataclass(frozen=True)
class DiskFull:
    """The server's data moves to a small file system, on which nothing is left; then it has room again.

    The file system is an image on a loop device, which needs root or sudo.
    """

    victim: str
    seconds: float

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"disk of {self.victim} full"

    def begin(self, place: Place) -> None:
        """The server is restarted on the small file system, which is then filled up."""
        data, image = self._data(place), self._image(place)
        place.stack.stop(self.victim)
        used = sum(path.lstat().st_size for path in data.rglob("*") if path.is_file())
        image.touch()
        os.truncate(image, used + used // 8 + ROOM_BYTES)
        _as_root("mkfs.ext4", "-q", "-F", str(image))
        away = data.with_name(f"{data.name}.away")
        data.rename(away)
        data.mkdir()
        _as_root("mount", "-o", "loop", str(image), str(data))
        _as_root("rmdir", str(data / "lost+found"))
        # The folder itself, too: its owner and mode are the server's.
        _as_root("cp", "-a", f"{away}/.", str(data))
        _as_root("rm", "-rf", str(away))
        place.stack.start(self.victim)
        filled = _as_root("dd", "if=/dev/zero", f"of={data / FILLER}", "bs=1M", check=False)
        assert b"No space left" in filled.stderr, filled.stderr

    def end(self, place: Place) -> None:
        """There is room again, and then the data moves back."""
        data, image = self._data(place), self._image(place)
        _as_root("rm", str(data / FILLER))
        # A server that has ended because of it, again and again, was given up by the supervisor.
        place.stack.start(self.victim)
        place.stack.stop(self.victim)
        back = data.with_name(f"{data.name}.back")
        _as_root("cp", "-a", str(data), str(back))
        _as_root("umount", str(data))
        data.rmdir()
        back.rename(data)
        image.unlink()
        place.stack.start(self.victim)

    def _data(self, place: Place) -> Path:
        return place.stack.layout.data(self.victim)

    def _image(self, place: Place) -> Path:
        return place.stack.layout.base / f"{self.victim}.img"


def _as_root(*command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    done = subprocess.run([*sudo, *command], capture_output=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode()}"
    return done
