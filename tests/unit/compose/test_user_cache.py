"""A checkout takes what another has made from the user's cache, whole or not at all."""

from pathlib import Path

import pytest

from compose.local import user_cache


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a first checkout has made, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "one" / "root-1"
    (made / "etc").mkdir(parents=True)
    (made / "etc" / "passwd").write_text("postgres:x:1:1")
    (made / "link").symlink_to("etc/passwd")
    (tmp_path / "other").mkdir()
    return made


def test_another_checkout_has_the_same_files(made: Path, tmp_path: Path) -> None:
    """Names, contents and symbolic links; nothing else is left in the cache or beside it."""
    wanted = tmp_path / "other" / "root-1"
    assert not user_cache.take(wanted)
    assert user_cache.keep(made)
    assert user_cache.keep(made)
    assert user_cache.take(wanted)
    assert (wanted / "etc" / "passwd").read_text() == "postgres:x:1:1"
    assert (wanted / "link").readlink() == Path("etc/passwd")
    assert [path.name for path in wanted.parent.iterdir()] == ["root-1"]
    assert {path.name for path in (tmp_path / "cache" / "sluice").iterdir()} == {"root-1", "root-1.list"}


@pytest.mark.parametrize("damage", ["missing", "cut", "more", "no list"])
def test_a_damaged_entry_is_not_taken_and_goes(made: Path, tmp_path: Path, damage: str) -> None:
    """So the next setup makes it, and keeps it again."""
    user_cache.keep(made)
    entry = tmp_path / "cache" / "sluice" / "root-1"
    passwd = entry / "etc" / "passwd"
    if damage == "missing":
        passwd.unlink()
    elif damage == "cut":
        passwd.unlink()
        passwd.write_text("postgres")
    elif damage == "more":
        (entry / "new").touch()
    else:
        entry.with_name("root-1.list").unlink()
    wanted = tmp_path / "other" / "root-1"
    assert not user_cache.take(wanted)
    assert not list(wanted.parent.iterdir())
    assert not entry.exists()
    assert user_cache.keep(made)
    assert user_cache.take(wanted)


def test_another_recipe_is_another_entry(made: Path, tmp_path: Path) -> None:
    """A copy made from other packages is not taken."""
    user_cache.keep(made)
    assert not user_cache.take(tmp_path / "other" / "root-2")


def test_a_cache_that_cannot_be_written_breaks_nothing(made: Path, tmp_path: Path) -> None:
    """The checkout has what it made; the next one makes it again."""
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert not user_cache.keep(made)
    assert not user_cache.take(tmp_path / "other" / "root-1")
    assert (made / "etc" / "passwd").exists()


def test_nothing_is_kept_without_a_home(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path would be another cache in each folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert user_cache.folder() is None
    assert not user_cache.keep(made)
