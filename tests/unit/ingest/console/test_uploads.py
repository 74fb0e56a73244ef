"""Forms with a file: what a browser sends is what is read, and nothing else breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.console.guard import MOST_FIELDS
from ingest.console.uploads import parse

MARK = "----WebKitFormBoundaryabcdefghijklmnop"
KIND = f"multipart/form-data; boundary={MARK}"
NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=50)


def body(fields: dict[str, str], file: bytes | None) -> bytes:
    """A form as the HTML standard has browsers write it."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + value.replace("\n", "\r\n").encode()
        for name, value in fields.items()
    ]
    if file is not None:
        head = (
            'Content-Disposition: form-data; name="file"; filename="Zähler %22.csv"\r\nContent-Type: text/csv'
        )
        parts.append(head.encode() + b"\r\n\r\n" + file)
    return b"".join(f"--{MARK}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{MARK}--\r\n".encode()


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.none() | st.binary(max_size=200))
def test_a_form_is_read_as_it_was_filled_in(fields: dict[str, str], file: bytes | None) -> None:
    """Fields with their lines, and a file byte for byte, whatever it is."""
    found = parse(KIND, body(fields, file))
    assert (found.fields, found.file) == (fields, file or b"")


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda some: body({"a": "b"}, some)[:-9] + some))
def test_what_no_browser_sends_is_refused_or_read(some: bytes) -> None:
    """With no other error."""
    for kind in (KIND, "multipart/form-data", "multipart/form-data; boundary=-"):
        try:
            parse(kind, some)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "wrong",
    [
        body({f"f{number}": "" for number in range(MOST_FIELDS + 1)}, None),
        body({"a": "b"}, b"x")[:-10],
        body({"a": "\0"}, None),
        body({"a": "b"}, None).replace(b' name="a"', b""),
        body({"a": "b"}, None).replace(b"b\r\n", b"\xff\r\n"),
    ],
    ids=["too many fields", "cut off", "NUL", "no name", "no UTF-8"],
)
def test_a_faulty_form_is_refused(wrong: bytes) -> None:
    """As a whole."""
    with pytest.raises(ValueError, match=r"."):
        parse(KIND, wrong)
