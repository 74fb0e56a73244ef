"""The shell commands of the documentation, how they are run on the stack of the tests, and what they name."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from compose.local.layout import PROJECT

# Pages whose commands are run, each page from its beginning in one shell, in tests/integration/test_docs.py;
# CONTRIBUTING.md's, which run these tests, and those without a stack: tests/unit/deployment/test_docs.py.
RUN = (
    *("README.md", "CONTRIBUTING.md"),
    *("docs/tutorial.md", "docs/operate.md", "docs/secure.md", "docs/replay.md", "docs/domains.md"),
    *("docs/devices.md", "docs/channels.md", "docs/api.md", "docs/console.md", "docs/data.md"),
)

_BLOCK = re.compile(r"^(?P<indent> *)```sh(?P<mark>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
# About the stack in .local, which is not the tests' own, or running these tests: make says what it would do.
_MAKE = re.compile(r"^((?:[A-Z_]+=\S+ )*)make ", re.MULTILINE)
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted([*(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*.md")])


def name(page: Path) -> str:
    """How a page is called here: by its path in the project."""
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path) -> list[str]:
    """The page's blocks of shell commands that are not marked `not-runnable`."""
    return [
        re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        for found in _BLOCK.finditer(page.read_text())
        if "not-runnable" not in found["mark"]
    ]


def script(page: Path, base: Path, values: Mapping[str, str] | None = None) -> str:
    """The page's commands for the stack in the folder `base`: one script that stops at the first fault.

    `values` replace what a reader has to replace, too: an example's number, or how far to go back.
    """
    text = "\n".join(["set -eu", *blocks(page)])
    text = _MAKE.sub(r"\1make --dry-run ", text).replace(".local/", f"{base}/")
    for example, value in (values or {}).items():
        assert example in text, f"{name(page)} has no {example}"
        text = text.replace(example, value)
    return text


def code(page: Path) -> Iterator[str]:
    """Every piece of code that stands in a sentence or a table of the page."""
    for found in _CODE.findall(_FENCED.sub("", page.read_text())):
        yield " ".join(found.split())
