"""The Procfile's reading."""

import pytest

from compose.local import procfile
from compose.local.errors import StackError
from compose.local.layout import PROJECT


def test_processes_come_in_the_files_order() -> None:
    """Names and commands are read as they stand, comments and empty lines are passed over."""
    text = "# why\n\ngateway: python -m x --a=b:c\nworker:  celery -A tasks worker\n"

    assert list(procfile.parse(text).items()) == [
        ("gateway", "python -m x --a=b:c"),
        ("worker", "celery -A tasks worker"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: b\nnonsense\n", "line 2"),
        ("a:\n", "line 1"),
        ("a: b\na: c\n", "lists a twice"),
    ],
)
def test_a_wrong_line_is_named(text: str, sentence: str) -> None:
    """A line that is not a process is an error that says which."""
    with pytest.raises(StackError, match=sentence):
        procfile.parse(text)


def test_the_projects_procfile_starts_from_the_source_of_messages() -> None:
    """Stopping goes through the Procfile from its first line on, so the gateway comes first."""
    processes = list(procfile.read(PROJECT / "Procfile"))

    assert processes[:2] == ["gateway", "bridge"]
    assert {"worker", "beat", "flower"} <= set(processes)
