"""The role of a connection."""

from typing import Any

import pytest
from pydantic import SecretStr

from ingest.admin import postgres
from tasks.servers import database
from tasks.settings import Settings


def test_a_process_that_gives_up_ownership_never_uses_the_owner_s_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a URL of its own a connection is the owner's, and after that only DATABASE_URL's."""
    chosen = Settings(
        _env_file=None,
        database_url=SecretStr("postgresql://sluice_web@db/sluice"),
        database_direct_url=SecretStr("postgresql://owner@db/sluice"),
    )
    urls: list[str] = []

    def connect(url: str, *_: Any) -> None:
        urls.append(url)

    monkeypatch.setattr(postgres, "settings", lambda: chosen)
    monkeypatch.setattr(database, "connect_directly", connect)
    monkeypatch.setattr(postgres, "_as_owner", True)
    postgres.connect()
    postgres.give_up_ownership()
    postgres.connect()
    assert urls == ["postgresql://owner@db/sluice", "postgresql://sluice_web@db/sluice"]
