"""Names as they are kept elsewhere."""

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from tasks.text.wording import MOST_OF_AN_APPLICATION, application

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=140)


@given(NAMES, NAMES)
def test_no_two_names_of_an_application_look_alike(one: str, other: str) -> None:
    """In the operators' trail, where PostgreSQL keeps 63 bytes of ASCII."""
    kept = application(one)
    assert len(kept) <= MOST_OF_AN_APPLICATION
    assert kept.isascii()
    assert kept.isprintable() or not kept
    assert (kept == application(other)) == (one == other)
    if len(kept) < MOST_OF_AN_APPLICATION:
        assert unquote(kept) == one


def test_a_plain_name_is_kept_as_it_is_and_a_long_one_is_not_taken_for_another() -> None:
    """The usual ones are read at a glance."""
    assert application("sluice-web/operator Grace") == "sluice-web/operator Grace"
    assert application("sluice-web/tenant ü") == "sluice-web/tenant %C3%BC"
    long = "sluice-web/tenant " + "a" * 100
    assert application(long + "b")[:52] == application(long + "c")[:52]
    assert application(long + "b") != application(long + "c")
