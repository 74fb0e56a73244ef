"""Where everything of one local stack lies on disk."""

import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compose.local.errors import StackError

# The checkout, or where the packages are installed.
PROJECT = Path(__file__).resolve().parents[2]
PROCFILE = Path(__file__).with_name("Procfile")


def ground(project: Path) -> Path:
    """The folder of the servers' root file system and the Kafka jars, made once.

    All stacks of a checkout share it, and all stacks of a user whose Sluice is installed without one.
    """
    if (project / "pyproject.toml").exists():
        return project / ".local" / "ground"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "sluice" / "ground"


GROUND = ground(PROJECT)

# A Unix socket's path has at most 107 bytes, and supervisord first binds to a name 8 bytes longer.
_SOCKET_BYTES = 95

_FOLDERS = ("data", "log", "run", "conf", "secrets")


@dataclass(frozen=True)
class Layout:
    """The folders and files of the stack in `base`, which must be absolute."""

    base: Path

    @property
    def env(self) -> Path:
        """The settings for every process, `KEY=VALUE` lines, mode 600."""
        return self.base / "env"

    @property
    def lock(self) -> Path:
        """Held while a command changes the stack."""
        return self.base / "lock"

    @property
    def supervisor_conf(self) -> Path:
        """The configuration of supervisord."""
        return self.conf("supervisord") / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        """The process id of supervisord."""
        return self.run / "supervisord.pid"

    @property
    def run(self) -> Path:
        """The pid files."""
        return self.base / "run"

    def data(self, name: str) -> Path:
        """The server's data; survives `down`."""
        return self.base / "data" / name

    def conf(self, name: str) -> Path:
        """The server's configuration, written at every `up`."""
        return self.base / "conf" / name

    def log(self, name: str) -> Path:
        """The log of a server or process."""
        return self.base / "log" / f"{name}.log"

    def pid(self, name: str) -> Path:
        """The pid file of a server or process."""
        return self.run / f"{name}.pid"

    def secret(self, name: str) -> Path:
        """A generated password, mode 600."""
        return self.base / "secrets" / name

    def contents(self) -> list[Path]:
        """Everything that a stack puts into its folder."""
        folders = [self.base / name for name in (*_FOLDERS, "bin")]
        return [*folders, self.env, self.lock]

    def make(self) -> None:
        """Creates the folders, none readable by other users.

        Raises `StackError` for a path that supervisord's configuration cannot hold: `%` begins a variable
        there, at two levels in some values, and `#` or `;` after a space a comment.
        """
        if found := re.search(r"%|\s[#;]", str(self.base)):
            raise StackError(f"the stack's folder must not have {found[0]!r} in its path: {self.base}")
        self.base.mkdir(parents=True, exist_ok=True)
        for name in _FOLDERS:
            folder = self.base / name
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)

    def socket(self) -> Path:
        """supervisord's Unix socket: in the stack's own folder, or in a short one if that path is too long.

        Raises `StackError` if the short folder belongs to somebody else.
        """
        here = self.run / "supervisor.sock"
        if len(os.fsencode(here)) <= _SOCKET_BYTES:
            return here
        short = self._short()
        short.mkdir(mode=0o700, exist_ok=True)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StackError(f"{short} is not a private folder of this user; remove it")
        return short / "supervisor.sock"

    def remove_socket(self) -> None:
        """Removes the socket of a supervisord that has ended, and the short folder."""
        short = self._short()
        for path in (*self.run.glob("supervisor.sock*"), *short.glob("supervisor.sock*")):
            path.unlink()
        if short.exists():
            short.rmdir()

    def _short(self) -> Path:
        key = hashlib.sha256(os.fsencode(self.base)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sluice-{os.getuid()}-{key}"
