"""Which domains Vector serves is known before it is used in place of the gateway."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.layout import PROJECT
from examples import logistics, victron
from ingest.admin.domain_vector import subscriptions, unserved
from ingest.admin.errors import OperatorError
from tasks import telemetry
from tests.unit.tasks.domain import test_access

VECTOR = PROJECT / "vector.toml"


def test_vector_serves_the_telemetry_and_no_form() -> None:
    """With a reason for each of the others."""
    served = telemetry.DOMAIN, logistics.DOMAIN, victron.DOMAIN, test_access.DOMAIN
    found = unserved(served, subscriptions(VECTOR))
    assert [one.partition(":")[0] for one in found] == ["packages", "victron", "states"]
    assert "users/+/packages/+/status" in found[0]
    assert "templates" in found[1]
    assert "access lists" in found[2]


def test_a_subscription_that_covers_a_topic_serves_it(tmp_path: Path) -> None:
    """Also one of several, in a list."""
    (tmp_path / "v.toml").write_text('[sources.a]\ntype = "mqtt"\ntopic = ["x", "users/+/packages/#"]\n')
    assert unserved([logistics.DOMAIN], subscriptions(tmp_path / "v.toml")) == []
    assert len(unserved([telemetry.DOMAIN], subscriptions(tmp_path / "v.toml"))) == 1


@pytest.mark.parametrize("text", ["no toml", '[sources.a]\ntype = "mqtt"\n', "sources = 1"])
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str) -> None:
    """With the name of the file."""
    (tmp_path / "v.toml").write_text(text)
    with pytest.raises(OperatorError, match=r"v\.toml cannot be read"):
        subscriptions(tmp_path / "v.toml")


@pytest.mark.parametrize(
    ("domains", "code"), [("tasks.telemetry", 0), ("tasks.telemetry,examples.number", 1)]
)
def test_the_command_fails_for_a_domain_that_vector_does_not_serve(domains: str, code: int) -> None:
    """So a start can depend on it."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "domain", "vector", str(VECTOR)],
        env={**os.environ, "DOMAINS": domains},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("number:" in done.stdout) == bool(code)
