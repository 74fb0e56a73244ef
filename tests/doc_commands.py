"""The shell commands of the documentation, and how they are run on the stack of the tests."""

import re
from pathlib import Path

# Pages whose commands are run, each page from its beginning in one shell.
RUN = ("tutorial.md", "operate.md", "secure.md")

_BLOCK = re.compile(r"^(?P<indent> *)```sh(?P<mark>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Of the stack in .local, which is not the tests' own.
_STACK = re.compile(r"^make (up|down|status|run|clean)$", re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """The page's blocks of shell commands that are not marked `not-runnable`."""
    return [
        re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        for found in _BLOCK.finditer(page.read_text())
        if "not-runnable" not in found["mark"]
    ]


def script(page: Path, base: Path) -> str:
    """The page's commands for the stack in the folder `base`: one script that stops at the first fault."""
    text = "\n".join(["set -eu", *blocks(page)])
    return _STACK.sub(":", text).replace(".local/", f"{base}/")
