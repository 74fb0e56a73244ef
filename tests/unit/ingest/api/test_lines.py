"""Answers that come line by line: each when its step is done, and undone when the client goes."""

import asyncio
import json
from typing import Any

from ingest.admin.accounts.provision import UsernameTaken
from ingest.api import lines


def steps(done: list[str], error: Exception | None = None) -> lines.Steps:
    """Two steps, and what became of them."""
    try:
        yield {"step": 1}
        if error is not None:
            raise error
        yield {"step": 2}
        done.append("kept")
    except GeneratorExit:
        done.append("undone")
        raise


async def _all(work: lines.Steps) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in lines.written(next(work), work)]


def test_each_step_is_a_line() -> None:
    """And then the work is kept."""
    done: list[str] = []
    assert asyncio.run(_all(steps(done))) == [{"step": 1}, {"step": 2}]
    assert done == ["kept"]


def test_a_step_that_fails_ends_it_with_its_problem() -> None:
    """With the status that an answer would have; of a bug without what it was."""
    *_, told = asyncio.run(_all(steps([], UsernameTaken("the name is taken"))))
    assert (told["problem"]["status"], told["problem"]["detail"]) == (409, "the name is taken")
    *_, told = asyncio.run(_all(steps([], RuntimeError("secret"))))
    assert (told["problem"]["status"], "secret" in str(told)) == (500, False)


def test_what_nobody_hears_of_is_undone() -> None:
    """The client has gone before the end."""
    done: list[str] = []

    async def gone() -> None:
        work = steps(done)
        told = lines.written(next(work), work)
        await anext(told)
        await told.aclose()  # type: ignore[attr-defined]

    asyncio.run(gone())
    assert done == ["undone"]
