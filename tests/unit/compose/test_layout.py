"""Where a stack's files lie."""

import os
import stat
from pathlib import Path

import pytest

from compose.local.errors import StackError
from compose.local.layout import Layout


def test_folders_are_private(tmp_path: Path) -> None:
    """Data, logs, passwords and configuration are for their owner alone."""
    layout = Layout(tmp_path / "stack")
    layout.make()

    for folder in layout.base.iterdir():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("length", [1, 60, 90, 200])
def test_the_sockets_path_is_short_enough_however_deep_the_folder(tmp_path: Path, length: int) -> None:
    """The name that supervisord binds to, 8 bytes longer, fits into the 107 bytes of a Unix socket's path."""
    layout = Layout(tmp_path / ("ü" * (length // 2)))
    layout.make()
    try:
        assert len(os.fsencode(layout.socket())) + 8 <= 107
        assert layout.socket() == layout.socket()
        assert stat.S_IMODE(layout.socket().parent.stat().st_mode) == 0o700
    finally:
        layout.remove_socket()


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Nobody else may put a socket where the supervisor's is looked for."""
    layout = Layout(tmp_path / ("x" * 100))
    layout.make()
    folder = layout.socket().parent
    folder.chmod(0o755)
    try:
        with pytest.raises(StackError, match="not a private folder"):
            layout.socket()
    finally:
        folder.rmdir()


@pytest.mark.parametrize(("folder", "found"), [("100%", "'%'"), ("a #1", "' #'"), ("a ;1", "' ;'")])
def test_a_path_that_supervisord_would_misread_is_refused(tmp_path: Path, folder: str, found: str) -> None:
    """supervisord would see a variable or a comment in it, so a sentence comes first."""
    with pytest.raises(StackError, match=found):
        Layout(tmp_path / folder).make()


@pytest.mark.parametrize("folder", ["C#", "a;b", "it's [mine] & yours"])
def test_other_odd_paths_are_taken(tmp_path: Path, folder: str) -> None:
    """Nothing is refused that works."""
    layout = Layout(tmp_path / folder)
    layout.make()
    assert layout.run.is_dir()
