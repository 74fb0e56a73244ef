"""A cache of this user's, from which a second checkout takes what the first one made.

An entry is a folder, named after the digest of what it was made from. It is linked, so it needs no disk space
of its own on the same file system; on another one it is copied. Beside it lies a digest of its list of files,
so that an entry that a cleaner has thinned out is found, removed, and made again.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# A copy on another file system must leave room for the data.
_COPY_BYTES = 8 * 1024**3
# Sizes of folders differ between file systems.
_LIST = "cd {} && find . ! -type d -printf '%y %s %P\\n' -o -printf '%y %P\\n' | LC_ALL=C sort | sha256sum"


def folder() -> Path | None:
    """Where the cache is: `sluice` in `XDG_CACHE_HOME`, else in `~/.cache`. None without a home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return None
    return base / "sluice" if base.is_absolute() else None


def exists() -> bool:
    """Whether this user has a cache."""
    return (cache := folder()) is not None and cache.is_dir()


def take(final: Path, as_root: Sequence[str] = ()) -> bool:
    """Makes `final` from its entry; returns False, and leaves nothing behind, if there is no sound one."""
    if (cache := folder()) is None or not (entry := cache / final.name).is_dir():
        return False
    part = final.with_name(f"{final.name}.part")
    if _listed(entry, as_root) == _noted(entry) and _link(entry, part, as_root):
        part.rename(final)
        return True
    _remove(part, as_root)
    _remove(entry, as_root)
    return False


def keep(final: Path, as_root: Sequence[str] = ()) -> bool:
    """Makes an entry of `final`, unless there is one; returns whether there is one now."""
    if (cache := folder()) is None:
        return False
    entry = cache / final.name
    if entry.is_dir():
        return True
    part = cache / f"{final.name}.part-{os.getpid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if (listed := _listed(final, as_root)) and _link(final, part, as_root):
            _note(entry).write_text(listed)
            part.rename(entry)
    except OSError:
        # No space, no permission, or another checkout was faster: there is a root file system all the same.
        pass
    _remove(part, as_root)
    return entry.is_dir()


def remove(as_root: Sequence[str] = ()) -> None:
    """Removes the cache."""
    if (cache := folder()) is not None:
        _remove(cache, as_root)


def _note(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.list")


def _noted(entry: Path) -> str | None:
    try:
        return _note(entry).read_text()
    except OSError:
        return None


def _listed(path: Path, as_root: Sequence[str]) -> str:
    """A digest of names and sizes; empty when they cannot be read."""
    command = f"set -e; {_LIST.format(shlex.quote(str(path)))}"
    done = subprocess.run([*as_root, "sh", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _link(source: Path, target: Path, as_root: Sequence[str]) -> bool:
    for how in ("--link", "--reflink=auto"):
        _remove(target, as_root)
        argv = [*as_root, "cp", "-a", how, "--one-file-system", str(source), str(target)]
        if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
            return True
        if shutil.disk_usage(target.parent).free < _COPY_BYTES:
            break
    return False


def _remove(path: Path, as_root: Sequence[str]) -> None:
    if path.exists():
        argv = [*as_root, "rm", "-rf", "--one-file-system", str(path)]
        subprocess.run(argv, capture_output=True, check=False)
