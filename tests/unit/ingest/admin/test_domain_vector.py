"""Vector's configuration is made for the domains, and it is known which of them it serves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.layout import PROJECT
from examples import logistics, victron, zigbee2mqtt
from ingest.admin.domains.domain_vector import read, unserved, written
from ingest.admin.errors import OperatorError
from tasks import telemetry
from tasks.domain import Domain, Fingerprint, Form, Record, TopicLevel
from tasks.domain.columns import Time
from tasks.domain.domain import AnyDomain
from tasks.settings import Settings
from tests.unit.tasks.domain import unowned

VECTOR = PROJECT / "vector.toml"
TEXT = VECTOR.read_text()
CHOSEN = Settings()


def names(domains: list[AnyDomain], text: str) -> list[str]:
    """The domains that are not served."""
    return [one.partition(":")[0] for one in unserved(domains, text, CHOSEN)]


def test_the_file_of_the_project_is_made_for_the_telemetry() -> None:
    """To the letter, so the shipped file and the program cannot drift apart."""
    assert written(TEXT, [telemetry.DOMAIN], CHOSEN) == TEXT
    assert unserved([telemetry.DOMAIN], TEXT, CHOSEN) == []


def test_a_domain_that_the_file_was_not_made_for_is_named_with_the_reason() -> None:
    """And the way out: `--write`, or the gateway."""
    found = unserved([telemetry.DOMAIN, logistics.DOMAIN, victron.DOMAIN, unowned.DOMAIN], TEXT, CHOSEN)
    assert [one.partition(":")[0] for one in found] == ["telemetry", "packages", "victron", "states"]
    assert "made for other domains" in found[0]
    assert "users/+/packages/+/status" in found[1]
    assert "--write" in found[2]
    assert "access lists" in found[3]


def test_a_file_made_for_the_domains_serves_all_but_those_by_access_lists() -> None:
    """Forms included; what stands outside the marked places stays."""
    able: list[AnyDomain] = [telemetry.DOMAIN, logistics.DOMAIN, victron.DOMAIN, zigbee2mqtt.DOMAIN]
    text = written(TEXT.replace("keep_alive = 30", "keep_alive = 17"), able, CHOSEN)
    assert "keep_alive = 17" in text
    assert names([*able, unowned.DOMAIN], text) == ["states"]
    assert written(text, [telemetry.DOMAIN], CHOSEN).replace("keep_alive = 17", "keep_alive = 30") == TEXT


def test_a_file_of_ones_own_serves_what_it_subscribes_to() -> None:
    """Without marked places, only the subscriptions can be looked at; of a form that is not enough."""
    own = '[sources.a]\ntype = "mqtt"\ntopic = ["x", "users/+/packages/#", "N/#"]\n'
    assert names([logistics.DOMAIN], own) == []
    assert names([telemetry.DOMAIN], own) == ["telemetry"]
    assert names([victron.DOMAIN], own) == ["victron"]
    with pytest.raises(OperatorError, match="start from"):
        written(own, [logistics.DOMAIN], CHOSEN)


class Odd(Record):
    """A topic with a character that no configuration holds."""

    device: TopicLevel
    time: Time | None = None
    reading_id: Fingerprint


def test_a_topic_that_the_configuration_cannot_hold_is_refused() -> None:
    """It would be a program that Vector does not start with."""
    odd = Domain(
        Odd, name="odd", topic="a\tb/{device}", owner="ada", source="{device}", table="odd",
        primary_key=("time", "device", "reading_id"), form=Form(),
    )  # fmt: skip
    with pytest.raises(OperatorError, match="cannot stand in Vector's configuration"):
        written(TEXT, [odd], CHOSEN)


@pytest.mark.parametrize("text", ["no toml", '[sources.a]\ntype = "mqtt"\n', "sources = 1", None])
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str | None) -> None:
    """With the name of the file."""
    if text is not None:
        (tmp_path / "v.toml").write_text(text)
    with pytest.raises(OperatorError, match=r"v\.toml cannot be read"):
        read(tmp_path / "v.toml")


def command(domains: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`sluice domain vector` with these domains."""
    return subprocess.run(
        [sys.executable, "-m", "ingest.cli", "domain", "vector", *arguments],
        env={**os.environ, "DOMAINS": domains},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_makes_the_file_and_then_finds_it_in_order(tmp_path: Path) -> None:
    """The check fails before, so a start can depend on it."""
    file = tmp_path / "vector.toml"
    shutil.copy(VECTOR, file)
    both = "tasks.telemetry,examples.victron"
    before = command(both, str(file))
    assert before.returncode == 1
    assert "victron: " in before.stdout
    made = command(both, str(file), "--write")
    assert (made.returncode, made.stdout) == (0, f"{file} is made for telemetry, victron\n"), made.stderr
    assert command(both, str(file)).returncode == 0
