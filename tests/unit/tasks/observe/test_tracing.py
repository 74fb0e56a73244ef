"""Some text is a trace's context, and other text is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.observe import tracing
from tasks.observe.tracing import SpanContext

IDS = st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)


@given(*IDS, st.booleans())
def test_a_context_survives_its_header(trace_id: int, span_id: int, sampled: bool) -> None:
    """A written context is read again, and says whether it is sampled."""
    context = SpanContext(trace_id, span_id, sampled)
    assert tracing.parse(context.traceparent()) == context
    assert tracing.is_sampled(context.traceparent()) == sampled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"ff-{1:032x}-{1:016x}-01",
        f"00-{1:032X}F-{1:016x}-01",
        f"00-{1:032x}-{1:016x}",
        f"00-{1:032x}-{1:016x}-01 ",
        f"00-{'G' * 32}-{1:016x}-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    """As W3C Trace Context says: such a header counts as missing."""
    assert tracing.parse(text) is None


def test_a_later_version_is_read_like_this_one() -> None:
    """A version of the future may have more at its end."""
    assert tracing.parse(f"01-{7:032x}-{8:016x}-01-more") == SpanContext(7, 8, True)


def test_a_child_is_of_the_same_trace() -> None:
    """And without a parent of a new one."""
    parent = SpanContext(7, 8, False)
    assert tracing.child(parent, sampled=True).trace_id == 7
    assert tracing.child(parent, sampled=True).span_id != 8
    assert tracing.child(None, sampled=True).trace_id != tracing.child(None, sampled=True).trace_id
