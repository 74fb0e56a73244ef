"""No link leads nowhere, every page is found, and each command is run by a test or says that it is not."""

import re
from pathlib import Path

import pytest

from compose.local.layout import PROJECT
from ingest.command_pages import markdown
from tasks.settings import Settings
from tests.doc_commands import RUN, blocks

PAGES = sorted([*(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*.md")])
# Pages whose commands other tests run, in other words: those of the local stack and of each command.
RUN_OTHERWISE = {
    "README.md",
    "CONTRIBUTING.md",
    "replay.md",
    "domains.md",
    "observe.md",
    "runbook.md",
    "failures.md",
}
# Pages that are written beside this one.
EXPECTED = {"replay.md", "domains.md", "observe.md", "runbook.md", "metrics.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project is to one that exists."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path.exists() or path.name in EXPECTED, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_is_run_or_said_not_to_be(page: Path) -> None:
    """A page with shell commands is one of those that tests run, or marks them `not-runnable`."""
    if page.name not in RUN_OTHERWISE and page.name not in RUN:
        assert blocks(page) == [], page.name


def test_every_page_is_in_the_index() -> None:
    """Whoever starts at docs/index.md finds every page."""
    index = (PROJECT / "docs" / "index.md").read_text()
    for page in (PROJECT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_page_of_commands_is_up_to_date() -> None:
    """`python -m ingest.command_pages > docs/commands.md` has been run since the last change of a command."""
    assert (PROJECT / "docs" / "commands.md").read_text() == markdown()


def test_the_reference_has_every_table() -> None:
    """Each table that the migrations make is in the reference."""
    reference = (PROJECT / "docs" / "reference.md").read_text()
    for path in (PROJECT / "sql").glob("*.sql"):
        for table in re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", path.read_text(), re.MULTILINE):
            assert f"`{table}`" in reference, table


def test_variables_in_the_docs_are_settings() -> None:
    """What the pages on security, scaling and deployment call a setting is one."""
    known = {name.upper() for name in Settings.model_fields}
    known |= {"SLUICE_SECRETS_DIR", "SLUICE_ENV_FILE", "COMPOSE_PROFILES", "WRITER_PASSWORD"}
    pages = [PROJECT / "docs" / name for name in ("secure.md", "scale.md", "deploy.md", "operate.md")]
    for page in [*pages, PROJECT / "SECURITY.md"]:
        for name in re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)[=`]", page.read_text()):
            assert name in known, f"{page.name}: {name}"
