"""Answers that come line by line, each an object in JSON, while the work goes on."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import structlog

from ingest.admin.errors import OperatorError, ServerAway
from ingest.api import problems

log = structlog.get_logger()

MEDIA_TYPE = "application/x-ndjson"
SCHEMA = {"type": "string", "description": "Objects in JSON, one in a line."}

Steps = Iterator[dict[str, Any]]
"""Each step does a part of the work, in any thread. When it is closed, it has to undo what it has begun."""


async def written(first: dict[str, Any], steps: Steps) -> AsyncIterator[bytes]:
    """The lines of the first step and of all others. If the client goes, the work is undone.

    A step that fails ends it by a line with its `problem`.
    """
    try:
        line: dict[str, Any] | None = first
        while line is not None:
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
            line = await anyio.to_thread.run_sync(_next, steps)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(getattr(steps, "close", _nothing))


def _next(steps: Steps) -> dict[str, Any] | None:
    try:
        return next(steps, None)
    except problems.Refused as error:
        return _problem(error.status, error.detail)
    except ServerAway as error:
        return _problem(503, str(error))
    except OperatorError as error:
        return _problem(problems.status_of(error), str(error))
    except Exception:
        log.exception("request_failed")
        return _problem(500, problems.FAILED)


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"problem": problems.problem(status, detail).model_dump(exclude_none=True)}


def _nothing() -> None:
    """Steps that are not a generator have nothing to undo."""
