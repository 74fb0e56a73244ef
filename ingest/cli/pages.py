"""Pages of docs/ that are made from declarations: commands, settings and metrics.

`python -m ingest.cli.pages` prints docs/commands.md, `sluice settings` and `sluice metrics` the other two.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings
from typer.main import get_command

from ingest import cli
from tasks.observe.catalogue import CATALOGUE
from tasks.observe.instruments import Metric
from tasks.settings import Settings

COMMANDS = """# Commands

Made by `python -m ingest.cli.pages` from each command's `--help`. Besides these there are
`make help`, `python -m compose.local --help`, `python -m ingest.loadtest --help` and
`python -m compose.watch --help`.
"""
SETTINGS = """# Settings

Every process reads its settings from the environment; a setting that is not there comes from the file that
`SLUICE_ENV_FILE` names (`.local/env` by default, which `make up` writes), then from the folder that
`SLUICE_SECRETS_DIR` names, where a file `redis_url` holds the value of `REDIS_URL`, and else from the
defaults.
`sluice settings` prints this page.
"""
METRICS = """# Metrics

Every process serves Prometheus' text format at `/metrics` of its own port: the worker at `METRICS_PORT`
(9000), the gateway at `GATEWAY_METRICS_PORT` (9001), the bridge at `BRIDGE_METRICS_PORT` (9002), the control
process at `CONTROL_METRICS_PORT` (9003), beat at `BEAT_METRICS_PORT` (9004), a worker of the queue
`notify` at `NOTIFY_METRICS_PORT` (9005), `web` at `WEB_METRICS_PORT` (9006). A worker's page is that of
all its children.
Counters begin at zero with their process. `sluice metrics` prints this page.
"""
_WIDTH = 100


def commands_page() -> str:
    """Every command with its help."""
    return "\n".join([COMMANDS, *_sections(get_command(cli.app), "sluice", None)])


def settings_page() -> str:
    """Every setting with its default, never with the value in force."""
    groups = [one for one in Settings.__bases__ if issubclass(one, BaseModel) and one is not BaseSettings]
    return "\n".join([SETTINGS, *(line for group in groups for line in _settings_of(group))])


def _settings_of(group: type[BaseModel]) -> Iterator[str]:
    yield f"## {group.__name__}\n\n{group.__doc__}\n"
    rows = (
        (f"`{name.upper()}`", _default(field.default), field.description or "")
        for name, field in group.model_fields.items()
    )
    yield from table("variable | default | meaning", rows)
    yield ""


def metrics_page() -> str:
    """Every metric with what it means and what to do about it."""
    heads = "metric | kind | shown by | means | what to do"
    return "\n".join([METRICS, *table(heads, map(_cells, CATALOGUE)), ""])


def table(heads: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a Markdown table; `heads` has a `|` between two columns."""
    yield f"| {heads} |"
    yield "|---" * (heads.count("|") + 1) + "|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    yield f"## `{context.command_path}`\n\n```\n{_plain(command.get_help(context))}\n```\n"
    for child, one in getattr(command, "commands", {}).items():
        yield from _sections(one, child, context)


def _plain(text: str) -> str:
    """Without colours and blanks at the ends of lines."""
    return re.sub(r"\x1b\[[0-9;]*m|[ \t]+(?=\n|\Z)", "", text).strip()


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "", {}) else f"`{value}`"


def _cells(metric: Metric) -> tuple[str, ...]:
    labels = f" by {', '.join(metric.labels)}" if metric.labels else ""
    unit = f", {metric.unit}" if metric.unit else ""
    kind = f"{metric.kind}{labels}{unit}"
    return f"`{metric.name}`", kind, ", ".join(metric.processes), metric.meaning, metric.remedy


if __name__ == "__main__":
    sys.stdout.write(commands_page())
