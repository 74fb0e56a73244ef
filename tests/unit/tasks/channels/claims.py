"""A delivery as the senders of channels get it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.channels.claim import Claim
from tasks.settings import settings

SECRET = "0123456789abcdef"  # noqa: S105 - of this test alone


@contextmanager
def settings_of(**values: str) -> Iterator[None]:
    """The settings of this process, for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        settings.cache_clear()
        try:
            yield
        finally:
            settings.cache_clear()


def claim(kind: str = "webhook", target: str = "https://example.com/", template: str | None = None) -> Claim:
    """A delivery of a change."""
    notice = {
        "alert_id": "a1",
        "status": "TRIGGERED",
        "severity": "warning",
        "device_id": "d",
        "message": "hot\nhot",
    }
    return Claim(1, 2, "u", "n", kind, target, SECRET, template, 1, 0, notice)
