"""CHANNEL_SCHEMES may have those of Apprise's schemes whose connections the guard sees."""

import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.settings import Settings

# Threads and processes of their own, and libraries that speak to this machine.
PAST_THE_GUARD = re.compile(
    r"\bThread\(|loop_start\(|ThreadPoolExecutor|multiprocessing|subprocess"
    r"|gi\.repository|^import syslog|win32",
    re.MULTILINE,
)


def _sources() -> Iterator[tuple[str, str]]:
    """Each scheme that the installed Apprise knows, with the text of its plugin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import apprise  # noqa: PLC0415 - it takes a second
        from apprise.manager_plugins import NotificationManager  # noqa: PLC0415

        apprise.Apprise.instantiate("ntfys://example.com/topic")
    manager: Any = NotificationManager()  # type: ignore[no-untyped-call]
    for scheme in manager.schemas():
        file = Path(inspect.getfile(manager[scheme]))
        files = [file] if file.parent.name == "plugins" else sorted(file.parent.glob("*.py"))
        yield scheme, "".join(one.read_text() for one in files)


def _allows(scheme: str) -> bool:
    try:
        Settings(channel_schemes=f"https,{scheme}", _env_file=None)
    except ValidationError as error:
        return f"must not have {scheme}" not in str(error)
    return True


def test_plugins_that_connect_past_the_guard_are_refused_and_no_others() -> None:
    """By what is installed: one that a new version brings fails here, until it is judged."""
    sources = dict(_sources())
    assert len(sources) > 100
    past = {scheme for scheme, text in sources.items() if PAST_THE_GUARD.search(text)}
    assert {"mqtt", "mqtts", "xmpp", "xmpps"} <= past
    assert {scheme for scheme in past if _allows(scheme)} == set()
    assert _allows("slack,workflows,ntfys,matrixs,nostr")


@pytest.mark.parametrize("schemes", ["mqtts", "https , mqtts", "slack,mqtts,discord"])
def test_wherever_it_stands(schemes: str) -> None:
    """The sentence names the scheme and the reason."""
    with pytest.raises(ValidationError, match=r"must not have mqtts: .* check of addresses"):
        Settings(channel_schemes=schemes, _env_file=None)
