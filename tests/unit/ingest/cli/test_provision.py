"""What `sluice provision` prints of an account."""

from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from ingest import cli
from ingest.admin.accounts import provision
from ingest.admin.accounts.accounts import Account
from ingest.admin.accounts.provision import Credential

SAID_ONCE = "shown this once"


def _provision(_: object, account: Account, password: str | None = None) -> Credential:
    return Credential(account.username, password or "made-for-you")


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.example/sluice")
    monkeypatch.setattr("ingest.admin.postgres.session", lambda: nullcontext(None))
    monkeypatch.setattr(provision, "provision", _provision)


def test_a_password_that_was_made_is_shown_once() -> None:
    """It is nowhere else, and the command says so."""
    done = CliRunner().invoke(cli.app, ["provision", "device", "ada", "fridge"])
    assert "username: ada/fridge\npassword: made-for-you\n" in done.output
    assert SAID_ONCE in done.output


def test_a_password_that_was_given_is_not_repeated() -> None:
    """Its owner has it: it does not belong into a log, and no sentence says that it is shown."""
    done = CliRunner().invoke(
        cli.app, ["provision", "device", "ada", "fridge", "--password-stdin"], input="correct horse battery\n"
    )
    assert done.exit_code == 0
    assert done.output == "username: ada/fridge\n"
