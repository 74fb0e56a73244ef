"""The work of `sluice alerts acknowledge`, `snooze`, `disable`, `enable`: users' commands by an operator.

They go the way of a command over MQTT, through the same queue to the same task, so what is promised of one
holds for the other: a worker executes it once, and the answer comes when it is kept.
"""

import json
from typing import Any

import redis

from ingest.admin.accounts.accounts import check_id
from ingest.admin.audit import note
from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.postgres import os_user, session
from ingest.requests.queue import Request, Requests
from tasks.rules.answers import Answer, is_open
from tasks.rules.commands import InvalidCommand, parse_command
from tasks.rules.model import Fault, prose
from tasks.servers.redis_client import client
from tasks.settings import settings

MOST_SECONDS = 60.0
POLL_SECONDS = 0.2
MAX_BY = 128


class CommandFailed(OperatorError):
    """The command is not known to be done; the message has every fault, each with its path."""

    def __init__(self, errors: list[Fault], said: str) -> None:
        lines = [f"  {error['path']}: {error['message']}" for error in errors]
        super().__init__("\n".join([said, *lines]))
        self.errors = errors


class CommandRefused(CommandFailed):
    """The command changed nothing."""

    def __init__(self, errors: list[Fault]) -> None:
        super().__init__(errors, "The command was refused, and nothing is changed:")


class CommandUnknown(CommandFailed):
    """A worker may have executed the command, or may still do it."""

    def __init__(self, errors: list[Fault]) -> None:
        super().__init__(
            errors, "It is not known whether the command was executed; `sluice alerts list` shows the alert:"
        )


def command(user_id: str, document: dict[str, Any], by: str | None) -> Answer:
    """Has a worker execute the command, in the name of `by` or of the user of the operating system.

    Alerts and changes have `operator/NAME` as its author, which no user can be. Raises `CommandRefused`,
    `CommandUnknown`, and `OperatorError`.
    """
    check_id(user_id, "user id")
    given = {name: value for name, value in document.items() if value is not None}
    try:
        parse_command(given)
    except InvalidCommand as error:
        raise CommandRefused(error.errors) from None
    author = _author(by)
    # Before it is sent: whatever becomes of it and of this process, the trail has it.
    _note(given["action"], user_id, {**given, "by": author})
    answer = _ask(user_id, json.dumps(given).encode(), author)
    if answer["ok"]:
        return answer
    if is_open(answer):
        raise CommandUnknown(answer["errors"])
    _note(f"{given['action']} refused", user_id, {**given, "by": author})
    raise CommandRefused(answer["errors"])


def _note(action: str, user_id: str, arguments: dict[str, Any]) -> None:
    with session() as connection:
        note(connection, action, "active_alerts", f"{user_id}/{arguments['device_id']}", arguments)


def _author(by: str | None) -> str:
    name = by or os_user()
    try:
        prose(name)
    except ValueError:
        name = ""
    if not 1 <= len(name) <= MAX_BY:
        raise OperatorError(f"--by must be a name of 1 to {MAX_BY} characters.")
    return f"operator/{name}"


def _ask(user_id: str, document: bytes, author: str) -> Answer:
    try:
        client().ping()
    except redis.RedisError as error:
        raise ServerAway(
            f"Redis does not answer: {error}. Check REDIS_URL and that the server runs."
        ) from error
    answers: list[Answer | None] = []
    patience = min(settings().request_patience_seconds, MOST_SECONDS)
    requests = Requests(lambda _request, answer: answers.append(answer), patience_seconds=patience, most=1)
    requests.start()
    try:
        requests.put(
            Request("manage", user_id, document, 0, again=False, retained=False, by=author),
        )
        while not answers:
            requests.run_once(POLL_SECONDS)
    finally:
        requests.close()
    (answer,) = answers
    assert answer is not None
    return answer
