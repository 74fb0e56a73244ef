"""Faults of disks: a server whose file system is full."""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.place import Place, start

ROOM_BYTES = 256 * 2**20
FILLER = "filler"
# Entries for more records than a fault takes.
INDEX_BYTES = 65_536


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

    @property
    def touches(self) -> frozenset[str]:
        """Its victim."""
        return frozenset({self.victim})

    def begin(self, place: Place) -> None:
        """The server is restarted on the small file system, which is then filled up."""
        as_root("true")
        data, image, away = self._paths(place)
        place.stack.stop(self.victim)
        used = sum(path.lstat().st_size for path in data.rglob("*") if path.is_file())
        image.touch()
        os.truncate(image, used + used // 8 + ROOM_BYTES)
        as_root("mkfs.ext4", "-q", "-F", str(image))
        data.rename(away)
        data.mkdir()
        as_root("mount", "-o", "loop", str(image), str(data))
        as_root("rmdir", str(data / "lost+found"))
        # The folder itself, too: its owner and mode are the server's.
        as_root("cp", "-a", f"{away}/.", str(data))
        # From here on the copy is the data.
        away.rename(away.with_suffix(".old"))
        start(place.stack, self.victim)
        _allocate_indexes(data)
        filled = as_root("dd", "if=/dev/zero", f"of={data / FILLER}", "bs=1M", check=False)
        assert b"No space left" in filled.stderr, filled.stderr

    def end(self, place: Place) -> None:
        """There is room again, and then the data moves back; no mount is left, whatever fails."""
        data, _, _ = self._paths(place)
        try:
            if (data / FILLER).exists():
                as_root("rm", str(data / FILLER))
                # A server that has ended because of it, again and again, was given up by the supervisor.
                start(place.stack, self.victim)
        finally:
            place.stack.stop(self.victim)
            self._move_back(place)
            start(place.stack, self.victim)

    def _move_back(self, place: Place) -> None:
        data, image, away = self._paths(place)
        if data.is_mount():
            try:
                if not away.exists():
                    as_root("cp", "-a", str(data), str(away))
            finally:
                as_root("umount", str(data))
        if away.exists():
            shutil.rmtree(data, ignore_errors=True)
            away.rename(data)
        image.unlink(missing_ok=True)
        as_root("rm", "-rf", str(away.with_suffix(".old")))

    def _paths(self, place: Place) -> tuple[Path, Path, Path]:
        """The server's data, the image, and where the data is while it is not at its place."""
        data = place.stack.layout.data(self.victim)
        return data, data.with_suffix(".img"), data.with_suffix(".away")


def _allocate_indexes(data: Path) -> None:
    """Gives Kafka's index files, which are sparse, the blocks that they will need.

    Where an index meets the full disk before the log does, one broker loses records that it has acknowledged
    (docs/failures.md, a full disk of Kafka). That is Kafka's to mend, and would hide what Sluice does.
    """
    for index in [*data.rglob("*.index"), *data.rglob("*.timeindex")]:
        as_root("fallocate", "--keep-size", "--length", str(INDEX_BYTES), str(index))


def mount(folder: Path, size: int) -> None:
    """The folder, which is empty, is a file system of its own from now on, of so many bytes."""
    image = folder.with_suffix(".img")
    image.touch()
    os.truncate(image, size)
    owner = f"root_owner={os.getuid()}:{os.getgid()}"
    as_root("mkfs.ext4", "-q", "-F", "-m", "0", "-E", owner, str(image))
    as_root("mount", "-o", "loop", str(image), str(folder))
    as_root("rmdir", str(folder / "lost+found"))


def fill(folder: Path) -> None:
    """Nothing is left on the folder's file system."""
    free = os.statvfs(folder)
    with (folder / FILLER).open("wb") as filler, suppress(OSError):
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize)
    # What is freed or left over meanwhile.
    filled = as_root("dd", "if=/dev/zero", f"of={folder / FILLER}.rest", "bs=64K", check=False)
    assert b"No space left" in filled.stderr, filled.stderr


def make_room(folder: Path) -> None:
    """What filled the folder's file system is gone."""
    as_root("rm", "-f", str(folder / FILLER), f"{folder / FILLER}.rest")


def release(folder: Path) -> None:
    """Unmounts what a run that was killed has left of the data in a stack's folder, or a machine's in it."""
    for data in (*folder.glob("data/*"), *folder.glob("data"), *folder.glob("*/*/data")):
        if data.is_mount():
            as_root("umount", str(data))


def as_root(*command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Runs the command as root; without the right to do so it fails, and says so."""
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    assert not sudo or shutil.which("sudo"), "a full disk is a mounted image: run as root, or install sudo"
    done = subprocess.run([*sudo, *command], capture_output=True, check=False)
    assert not check or done.returncode == 0, (
        f"a full disk is a mounted image, which needs root: {' '.join(command)}: {done.stderr.decode()}"
    )
    return done
