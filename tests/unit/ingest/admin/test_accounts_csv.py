"""Accounts from a CSV file: what the file may look like, and what is said of one that is wrong."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.accounts import accounts, accounts_csv
from ingest.admin.accounts.accounts import InvalidId
from ingest.admin.accounts.provision import Credential

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_other_columns_repeated_lines_and_empty_ones_do_not_count() -> None:
    """A spreadsheet's export is taken as it is, with its mark of UTF-8."""
    text = '\ufeffRoom,Device,USER\n"hall, left",oven,bob\n\n,fridge,ada\nhall,oven,bob\nhall,,bob\n'
    found = accounts_csv.read(io.StringIO(text))
    assert found == [accounts.device("bob", "oven"), accounts.device("ada", "fridge"), accounts.user("bob")]


def test_every_fault_is_named_with_its_line() -> None:
    """So that one look at the file mends all of them."""
    text = "user,device\nada,a/b\nada\nada,oven\n,oven\n"
    with pytest.raises(accounts_csv.InvalidCsv) as error:
        accounts_csv.read(io.StringIO(text))
    said = str(error.value).splitlines()
    assert said[0] == "No account was made:"
    assert [line.partition(":")[0] for line in said[1:]] == ["line 2", "line 3", "line 5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`user` and `device`"),
        ("ada,oven\n", "`user` and `device`"),
        ("user,user,device\n", "`user`"),
        ("user,device\n", "no line besides its first"),
        ('user,device\n"ada,oven\n', "line 2"),
    ],
)
def test_a_file_that_names_no_accounts_says_what_is_missing(text: str, said: str) -> None:
    """Nothing is made of it."""
    with pytest.raises(accounts_csv.InvalidCsv, match=said):
        accounts_csv.read(io.StringIO(text))


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    """With the line from which on they are."""
    file = io.TextIOWrapper(io.BytesIO(b"user,device\nada,k\xfcche\n"), encoding="utf-8")
    with pytest.raises(accounts_csv.InvalidCsv, match="not UTF-8"):
        accounts_csv.read(file)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_what_is_written_is_read_again(pairs: list[tuple[str, str]]) -> None:
    """Whatever ids are allowed: the file with the passwords names the accounts as the first one did."""
    made = []
    for user, device in pairs:
        try:
            made.append(accounts.device(user, device))
        except InvalidId:
            continue
    file = io.StringIO()
    accounts_csv.write(file, [(one, Credential(one.username, "secret")) for one in made])
    if not made:
        return
    assert accounts_csv.read(io.StringIO(file.getvalue(), newline="")) == list(dict.fromkeys(made))
