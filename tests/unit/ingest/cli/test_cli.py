"""The command line itself: help, exit codes, and what wrong settings say."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

from ingest import cli
from tasks.settings import env_file

HEAVY = ("celery", "confluent_kafka", "psycopg", "pydantic")


def sluice(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command without an env file."""
    return subprocess.run(
        [sys.executable, "-m", "ingest.cli", *arguments],
        env={**os.environ, "SLUICE_ENV_FILE": os.devnull, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    """`sluice --help` lists the commands, and so does a group of commands without one."""
    shown = sluice("--help")
    assert shown.returncode == 0
    for command in ("migrate", "provision", "topics"):
        assert command in shown.stdout
    assert "gives it a new password" in " ".join(sluice("provision", "--help").stdout.split())


def test_help_loads_nothing_heavy() -> None:
    """The help answers at once, because what the commands need is imported when they run."""
    code = f"import sys, ingest.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_a_wrong_call_exits_with_2() -> None:
    """An unknown command or a missing argument is reported on stderr, with exit code 2."""
    for arguments in (("bogus",), ("provision", "device", "alice"), ("migrate", "--bogus")):
        done = sluice(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Error" in done.stderr


def test_a_wrong_setting_is_named_without_its_value() -> None:
    """A setting that cannot be is named by its variable, with exit code 1 and no traceback."""
    done = sluice("topics", KAFKA_PARTITIONS="sesame")
    assert done.returncode == 1
    assert "KAFKA_PARTITIONS" in done.stderr
    assert "sesame" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_printed() -> None:
    """`sluice --version` prints the version of the installed package."""
    assert sluice("--version").stdout.split() == ["sluice", version("sluice")]


def test_without_any_settings_no_server_is_addressed(tmp_path: Path) -> None:
    """Outside of a checkout, with no address in the environment, a command does not guess the usual ports."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if name != "SLUICE_ENV_FILE" and not name.endswith(("_URL", "_SERVERS", "_HOST"))
    }
    command = [sys.executable, "-P", "-m", "ingest.cli", "topics"]
    done = subprocess.run(
        command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "The servers are not configured" in done.stderr


def test_the_env_file_is_found_from_any_folder_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest folder above with celeryconfig.py is the checkout; its stack's file has the settings."""
    monkeypatch.delenv("SLUICE_ENV_FILE")
    (tmp_path / "celeryconfig.py").touch()
    below = tmp_path / "docs" / "pictures"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert env_file() is None
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").touch()
    assert env_file() == tmp_path / ".local" / "env"
    monkeypatch.setenv("SLUICE_ENV_FILE", os.devnull)
    assert env_file() == Path(os.devnull)


@pytest.mark.parametrize(
    ("group", "name", "other"), [("replay", "offsets", "range"), ("dlq", "acknowledge", "close")]
)
def test_a_command_has_the_other_name_that_people_look_for(group: str, name: str, other: str) -> None:
    """It takes the same, does the same, and its help says which it is."""
    commands = get_command(cli.app).commands[group].commands  # type: ignore[attr-defined]
    one, same = commands[name], commands[other]
    assert [param.opts for param in one.params] == [param.opts for param in same.params]
    assert f"another name of `{name}`" in same.help
    assert one.callback.__wrapped__ is same.callback.__wrapped__
