"""The Procfile: Sluice's processes by name."""

import re
from pathlib import Path

from compose.local.errors import StackError

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)\Z")


def parse(text: str) -> dict[str, str]:
    """The shell command of each process, in the file's order.

    Raises `StackError` for a line that is neither empty nor a comment nor `name: command`, and for a name
    given twice.
    """
    processes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.match(stripped)
        if not found:
            raise StackError(f"line {number} of the Procfile is not `name: command`")
        name, command = found.groups()
        if name in processes:
            raise StackError(f"the Procfile lists {name} twice")
        processes[name] = command
    return processes


def read(path: Path) -> dict[str, str]:
    """The processes of the Procfile at `path`."""
    return parse(path.read_text())
