"""Templates of messages: only fields of an alert, and nothing that grows or runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.channels import message
from tasks.channels.message import FIELDS, MOST_TEXT, MOST_TITLE

NOTICE = {
    "alert_id": "a",
    "status": "TRIGGERED",
    "severity": "critical",
    "device_id": "fridge",
    "message": "too warm",
    "value": 9.5,
    "values": {"temperature": 9.5, "door": True},
}


def test_a_template_names_fields() -> None:
    """With or without braces; two dollars are one, and what an alert does not have is empty."""
    assert message.text("$$ $message: ${value}C ($values) $note.", NOTICE) == (
        "$ too warm: 9.5C (temperature 9.5, door true) ."
    )
    assert "too warm" in message.text(None, NOTICE)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("$secret", "there is no field $secret"),
        ("${value.__class__}", "must be followed"),
        ("5 $", "must be followed"),
        ("$Message", "must be followed"),
        ("", "1 to 4096"),
        ("x" * 5000, "1 to 4096"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(template: str, said: str) -> None:
    """In a sentence; one that is stored all the same is replaced by the default one."""
    assert said in message.problem(template)
    assert message.text(template, NOTICE) == message.text(None, NOTICE)


def test_a_field_is_not_a_template() -> None:
    """The words of a device or a rule are put in as they are."""
    assert message.text("$message", {"message": "$alert_id {0} %s"}) == "$alert_id {0} %s"


@given(st.text(alphabet="$${}abemsgv_l ", max_size=60), st.dictionaries(st.sampled_from(FIELDS), st.text()))
def test_any_template_gives_a_bounded_text(template: str, notice: dict[str, str]) -> None:
    """It never fails."""
    assert len(message.text(template, notice)) <= MOST_TEXT


@given(st.dictionaries(st.sampled_from(FIELDS), st.text()))
def test_a_title_is_one_line(notice: dict[str, str]) -> None:
    """No header can be put into a mail by it."""
    title = message.title(notice)
    assert len(title) <= MOST_TITLE
    assert title.isprintable()


@given(st.text(min_size=1))
def test_huge_fields_are_cut(value: str) -> None:
    """However often the template names them."""
    assert len(message.text("$message" * 500, {"message": value * 2000})) <= MOST_TEXT
