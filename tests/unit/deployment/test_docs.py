"""No link leads nowhere, every page is found, and each command is run by a test or says that it is not."""

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from compose.local.layout import PROJECT
from ingest import cli
from ingest.cli.pages import commands_page
from tasks.app import app
from tasks.dead_letters import letter
from tasks.dead_letters.index import CONDEMNED
from tasks.domain.payload import ErrorType
from tasks.settings import Settings
from tests.doc_commands import RUN, blocks, code, name, pages, script

PAGES = pages()
# Made by `python3 -m compose.generate_secrets`.
MADE = {"compose/secrets"}
# They are nowhere on a message's way, or everywhere.
SHARED_ROOMS = {
    *("ingest/admin", "ingest/cli", "ingest/health", "ingest/loadtest"),
    *("tasks/observe", "tasks/servers", "tasks/settings", "tasks/text"),
}
FOLDERS = r"(?:compose|docs|examples|helm-values|ingest|sql|tasks|tests)"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project is to one that exists."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path.exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_command_is_run_or_said_not_to_be(page: Path) -> None:
    """A page with shell commands is one of those that tests run, or marks them `not-runnable`."""
    assert name(page) in RUN or blocks(page) == []


def test_the_commands_that_need_no_stack(tmp_path: Path) -> None:
    """A reader of the page about devices sees a row at once."""
    done = subprocess.run(
        ["sh", "-c", script(PROJECT / "docs/devices.md", tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert '"device": "kitchen", "temperature": 21.34' in done.stdout


def test_the_commands_for_contributors_are_there(tmp_path: Path) -> None:
    """`make` knows each target, and pytest would find tests by each of the command lines."""
    text = script(PROJECT / "CONTRIBUTING.md", tmp_path)
    for folder, word in re.findall(r"^\.venv/bin/pytest (\S+)(?: -k (\w+))?", text, re.MULTILINE):
        test = re.compile(rf"^def test_\w*{word}", re.MULTILINE)
        assert any(test.search(file.read_text()) for file in (PROJECT / folder).rglob("test_*.py")), word
    done = subprocess.run(
        ["sh", "-c", text.replace(".venv/bin/pytest", ": pytest")],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_diagram_shows_files_that_exist_and_every_process() -> None:
    """Its boxes are doors and rooms of the house; no process and no room of theirs is missing."""
    diagram = re.search(
        r"```mermaid\n(.*?)```", (PROJECT / "docs" / "architecture.md").read_text(), re.DOTALL
    )
    assert diagram
    boxes = set(re.findall(r"(?:ingest|tasks)/\w+(?:\.py)?", diagram[1]))
    assert [box for box in boxes if not (PROJECT / box).exists()] == []
    rooms = {
        f"{top}/{path.parent.name}" for top in ("ingest", "tasks") for path in (PROJECT / top).glob("*/*.py")
    }
    assert rooms - SHARED_ROOMS <= boxes
    started = re.findall(r"python -m ingest\.(\w+)", (PROJECT / "Procfile").read_text())
    assert {f"ingest/{process}.py" for process in started} <= boxes


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_sentence_names_is_there(page: Path) -> None:
    """Commands with their options, targets of make, modules, tasks and files in the text exist."""
    for piece in code(page):
        if command := re.match(r"(?:\.venv/bin/)?sluice (.+)", piece):
            _resolve(command[1].split())
        elif target := re.match(r"(?:[A-Z_]+=\S+ )*make ([a-z]+)$", piece):
            assert f"\n{target[1]}:" in (PROJECT / "Makefile").read_text(), piece
        elif module := re.match(r"\S*python3? -m ([\w.]+)", piece):
            assert importlib.util.find_spec(module[1]) is not None, piece
        elif task := re.fullmatch(r"tasks\.[a-z_]+\.[a-z_.]+", piece):
            app.loader.import_default_modules()
            assert task[0] in app.tasks or importlib.util.find_spec(task[0]) is not None, piece
        elif path := re.fullmatch(rf"{FOLDERS}/[\w./-]+", piece):
            assert (PROJECT / path[0]).exists() or path[0] in MADE, piece


def _resolve(words: list[str]) -> None:
    """Fails for a subcommand or an option that `sluice` does not have."""
    command: Any = get_command(cli.app)
    for word in words:
        commands = getattr(command, "commands", {})
        if word == "…":
            return
        if word.startswith("--"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert word.partition("=")[0] in options | {"--help"}, words
        elif commands:
            assert word in commands, words
            command = commands[word]


def test_every_page_is_in_the_index() -> None:
    """A reader who starts at docs/index.md finds every page."""
    index = (PROJECT / "docs" / "index.md").read_text()
    for page in (PROJECT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_page_of_commands_is_up_to_date() -> None:
    """`python -m ingest.cli.pages > docs/commands.md` has been run since the last change of a command."""
    assert (PROJECT / "docs" / "commands.md").read_text() == commands_page()


def test_the_reference_has_every_table() -> None:
    """Each table that the migrations make is in the reference."""
    reference = (PROJECT / "docs" / "reference.md").read_text()
    for path in (PROJECT / "sql").glob("*.sql"):
        for table in re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", path.read_text(), re.MULTILINE):
            assert f"`{table}`" in reference, table


def test_variables_in_the_docs_are_settings() -> None:
    """Every setting that the pages on security, scaling and deployment name exists."""
    known = {name.upper() for name in Settings.model_fields}
    known |= {
        "SLUICE_SECRETS_DIR",
        "SLUICE_ENV_FILE",
        "FLOWER_BROKER_API",
        "COMPOSE_PROFILES",
        "HOST_MQTT_PORT",
        "WRITER_PASSWORD",
    }
    pages = [PROJECT / "docs" / name for name in ("secure.md", "scale.md", "deploy.md", "operate.md")]
    for page in [*pages, PROJECT / "SECURITY.md"]:
        for variable in re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)[=`]", page.read_text()):
            assert variable in known, f"{page.name}: {variable}"


def test_every_error_type_is_explained() -> None:
    """Whoever finds one in a dead letter finds it in the page about them."""
    known = {*get_args(ErrorType), *CONDEMNED, *letter.ABOUT_ALERTS, "DatabaseRefused", "Conflict"}
    page = (PROJECT / "docs" / "replay.md").read_text()
    table = page.split("| `error_type` |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == known
