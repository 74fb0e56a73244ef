"""Programs of the root file system that only tests run: Prometheus, Alertmanager, the browser, RabbitMQ."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compose.local import root_filesystem
from compose.local.console import Report


def enclosed(
    argv: Sequence[str], *, read: Path | None = None, write: Path | None = None, daemons: bool = False
) -> list[str]:
    """The argument list that runs it as a plain user; `read` is at /srv/read, `write` at /srv/write.

    One that starts `daemons` has process ids of its own, so that they end with it.
    """
    root_filesystem.ensure(Report())
    user, group = root_filesystem.server_user()
    return [
        *(
            "bwrap",
            "--ro-bind",
            str(root_filesystem.root()),
            "/",
            "--dev",
            "/dev",
            "--bind",
            "/proc",
            "/proc",
        ),
        *("--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/srv"),  # noqa: S108 - private to the program
        *(("--ro-bind", str(read), "/srv/read") if read else ()),
        *(("--bind", str(write), "/srv/write") if write else ()),
        *(("--unshare-pid",) if daemons else ()),
        *("--unshare-user", "--uid", str(user), "--gid", str(group), "--die-with-parent", "--clearenv"),
        *("--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"),  # noqa: S108
        *argv,
    ]


def run(argv: Sequence[str], *, read: Path) -> str:
    """The program's output; fails with its own words when it does not succeed."""
    done = subprocess.run(enclosed(argv, read=read), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(
    argv: Sequence[str], *, read: Path | None = None, write: Path | None = None, daemons: bool = False
) -> Iterator[None]:
    """The program, for as long as the block runs."""
    with Path(os.devnull).open("wb") as nothing:
        process = subprocess.Popen(
            enclosed(argv, read=read, write=write, daemons=daemons),
            stdout=nothing,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
