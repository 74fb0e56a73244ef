"""A worker hands to Celery all headers that Celery writes, and none that would make it fail."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.app import app
from tasks.worker.foreign import TaskHeaders, require_sound

SOUND = {"task": "tasks.store.store_batch", "id": "1"}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eta": datetime.now(UTC), "expires": datetime.now(UTC) + timedelta(seconds=5)},
        {"countdown": 1.5, "expires": 5},
        {"time_limit": 30, "soft_time_limit": 20.5, "retries": 3},
        {"group_id": uuid4().hex, "group_index": 1, "root_id": "1", "parent_id": "2"},
        {"ignore_result": True, "shadow": "short", "argsrepr": "()", "kwargsrepr": "{}", "origin": "me"},
        {"stamped_headers": ["run"], "run": ["1"], "replaced_task_nesting": 1},
    ],
)
def test_what_celery_writes_is_sound(options: dict[str, Any]) -> None:
    """Whatever a task is sent with, its headers are let through."""
    made = app.amqp.as_task_v2(uuid4().hex, "tasks.store.store_batch", **options)
    require_sound(made.headers)


@given(st.sampled_from(sorted(TaskHeaders.model_fields)), ANYTHING)
def test_whatever_stands_in_headers_is_told_by_a_value_error(name: str, anything: object) -> None:
    """Nothing but a `ValueError` ever comes of odd headers, which is what the worker's consumer expects."""
    try:
        require_sound(SOUND | {name: anything})
    except ValueError:
        assert anything is not None or name in SOUND


@pytest.mark.parametrize("odd", [[17, "odd"], [-1, None], [float("nan"), None], [1], {"a": 1}, "10"])
def test_odd_time_limits_are_refused(odd: object) -> None:
    """They reach the timers of the worker's main process, which would end by them."""
    with pytest.raises(ValueError, match="timelimit"):
        require_sound(SOUND | {"timelimit": odd})
