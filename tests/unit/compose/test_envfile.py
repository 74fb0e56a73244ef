"""The env file: every reader reads what was written."""

import stat
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from compose.local import envfile
from compose.local.errors import StackError

_FORBIDDEN = "'\\\x7f"
_values = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters=_FORBIDDEN)
).filter(lambda text: "${" not in text)


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), _values))
def test_what_is_rendered_is_parsed_back(values: dict[str, str]) -> None:
    """Any values that are allowed come back as they were."""
    assert envfile.parse(envfile.render(values).split("\n")) == values


@pytest.mark.parametrize(
    "value", ["", "plain", "a b", "$HOME", "a;b&c", "# x", 'say "hi"', "redis://:p@h:1/0", "ä€"]
)
def test_a_shell_and_pydantic_read_the_same(value: str, tmp_path: Path) -> None:
    """A shell's `.` and pydantic's reader of env files find the value that was written."""
    path = tmp_path / "env"
    envfile.write(path, {"KEY": value})

    shell = subprocess.run(
        ["/bin/sh", "-c", f'set -eu; . {path}; printf %s "$KEY"'], capture_output=True, text=True, check=True
    )

    assert shell.stdout == value
    assert dotenv_values(path)["KEY"] == value


@pytest.mark.parametrize("value", ["it's", "a\\b", "a\nb", "${HOME}x", "nul\0"])
def test_a_value_that_readers_disagree_about_is_refused(value: str) -> None:
    """A value that one reader would change is an error that names its variable, and not the value."""
    with pytest.raises(StackError, match="KEY") as caught:
        envfile.render({"KEY": value})

    assert value not in str(caught.value)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """The env file holds passwords: mode 600, also where it replaces a looser one."""
    path = tmp_path / "env"
    path.write_text("OLD=1\n")
    path.chmod(0o644)

    envfile.write(path, {"NEW": "2"})

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert envfile.read(path) == {"NEW": "2"}


def test_no_file_is_no_values(tmp_path: Path) -> None:
    """A stack that never ran has an empty environment."""
    assert envfile.read(tmp_path / "env") == {}


def test_a_broken_line_is_named() -> None:
    """A line that this module cannot have written is an error that says which."""
    with pytest.raises(StackError, match="line 2"):
        envfile.parse(["A=1", "nonsense"])
