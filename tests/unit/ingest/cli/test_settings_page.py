"""The page of settings is the declaration's."""

from pathlib import Path

from ingest.cli.pages import settings_page
from tasks.settings import Settings

PAGE = Path(__file__).resolve().parents[4] / "docs" / "settings.md"


def test_the_page_of_settings_is_up_to_date() -> None:
    """`sluice settings > docs/settings.md` has been run since the last change of a setting."""
    assert PAGE.read_text() == settings_page()


def test_every_setting_has_its_line() -> None:
    """Each belongs to one of the groups, of which the page has a section."""
    lines = settings_page().splitlines()
    named = [line.split("`")[1].lower() for line in lines if line.startswith("| `")]
    assert sorted(named) == sorted(Settings.model_fields)


def test_every_setting_says_what_it_means() -> None:
    """A setting without a sentence is a riddle."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_no_default_is_a_secret() -> None:
    """Addresses may be defaults; names and passwords may not."""
    assert "@" not in settings_page()
