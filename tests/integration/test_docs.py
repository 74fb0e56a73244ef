"""The commands of the documentation do what the pages say."""

import os
import subprocess

import psycopg
import pytest

from compose.local.layout import PROJECT
from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.doc_commands import RUN, script
from tests.integration.fleet import wait_until


def run(stack: Stack, page: str) -> str:
    """Runs the page's commands as a new user would, one after the other; returns what they printed."""
    done = subprocess.run(
        ["sh", "-c", script(PROJECT / "docs" / page, stack.layout.base)],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SLUICE_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", [page for page in RUN if page != "tutorial.md"])
def test_the_commands_of_a_page_succeed(pipeline: Stack, page: str) -> None:
    """Each of the page's commands ends well."""
    run(pipeline, page)


def test_the_tutorial_ends_with_a_row_and_a_dead_letter(
    pipeline: Stack, database: psycopg.Connection[tuple[object, ...]], dead_letters: DeadLetters
) -> None:
    """Who types the tutorial gets the row and the dead letter that it promises."""
    database.execute("DELETE FROM raw_telemetry WHERE user_id = 'ada'")
    run(pipeline, "tutorial.md")
    query = "SELECT extra_data ->> 'door' FROM raw_telemetry WHERE user_id = 'ada' AND temperature = 9.5"
    wait_until(lambda: database.execute(query).fetchall() == [("open",)], 30, "the row")
    reason = '`sequence_id` must be a 64-bit integer, got the string "one"'
    wait_until(
        lambda: reason in [letter["error"] for _, letter in dead_letters.read()], 30, "the dead letter"
    )
