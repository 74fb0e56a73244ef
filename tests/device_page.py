"""The messages of docs/devices.md, and what the page promises of each."""

import json
import re
from typing import Any, NamedTuple

from tests.conftest import PROJECT

_NOTHING = "(nothing)"


class Promise(NamedTuple):
    """One message, and its rows without columns that are null, or what becomes of it instead."""

    file: str
    topic: str
    payload: bytes
    rows: list[dict[str, Any]]
    ignored: bool
    refused: list[str]


def promises() -> list[Promise]:
    """All of the page, in its order."""
    found: list[Promise] = []
    sections = (PROJECT / "docs/devices.md").read_text().split("\n## ")
    for section in sections:
        if "```text\n" not in section:
            continue
        file = re.search(r"\(\.\./(examples/\w+\.py)\)", section)
        block = re.search(r"```text\n(.*?)```", section, re.DOTALL)
        assert file
        assert block
        for message in re.split(r"\n(?=\S)", block[1].rstrip("\n")):
            topic, payload, *results = message.split("\n")
            content = b"" if payload.strip() == _NOTHING else payload.strip().encode()
            promised = [line.strip().removeprefix("-> ") for line in results]
            found.append(
                Promise(
                    file[1],
                    topic,
                    content,
                    [json.loads(line) for line in promised if line.startswith("{")],
                    "ignored" in promised,
                    [line.removeprefix("refused: ") for line in promised if line.startswith("refused: ")],
                )
            )
    return found


def shown(row: dict[str, Any], arrival: str) -> dict[str, Any]:
    """A row as the page shows it."""
    kept = {name: value for name, value in row.items() if value not in (None, {}) and name != "reading_id"}
    return {**kept, "time": "arrival"} if kept["time"] == arrival else kept
