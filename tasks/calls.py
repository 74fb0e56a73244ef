"""Task messages by task name, so that a process can send one without importing the task.

Each function returns the signature of one task. A test compares the arguments with the tasks themselves.
Some names are older than the modules of their tasks: `tasks.config.*` is in `tasks/user_requests.py`,
`tasks.alerts.*` in `tasks/clock.py`, `tasks/apply_rules.py` and `tasks/rebuild.py`, `tasks.share.*` in
`tasks/dead_letter_share.py`, `tasks.notify.*` in `tasks/publish_changes.py`, `tasks.devices.*` in
`tasks/register_devices.py`, `tasks.channels.*` in `tasks/deliver_channels.py`, `tasks.rollups.*` in
`tasks/roll_up.py`. They stay, so that workers of two versions can share a broker.
"""

from typing import Any

from celery import Signature

from tasks.app import app

Call = Signature[Any]

# As long as the database may take for the rules of a `set_rules`.
SET_RULES_SECONDS = 10


def process_part(
    batch: str, part: int, verdict: tuple[str, str] | None = None, *, blind: bool = False
) -> Call:
    """`tasks.process.process_part`: one part of a batch."""
    optional = {"verdict": verdict, "blind": blind}
    given = {name: value for name, value in optional.items() if value}
    return _call("tasks.process.process_part", batch=batch, part=part, **given)


def store_batch(batch: str, parts: int, total: int, bridge: str, domain: str) -> Call:
    """`tasks.store.store_batch`; Celery puts the results of the parts before these arguments."""
    return _call(
        "tasks.store.store_batch", batch=batch, parts=parts, total=total, bridge=bridge, domain=domain
    )


def set_rules(
    user_id: str,
    document: bytes,
    request: str,
    control: str,
    *,
    retained: bool,
    by: str | None = None,
    seen: str | None = None,
) -> Call:
    """`tasks.config.set_rules`: one request of a user, or of an operator for the user."""
    # Left out where they are not given, so that earlier workers understand it.
    given = {name: value for name, value in {"by": by, "seen": seen}.items() if value is not None}
    return _call(
        "tasks.config.set_rules",
        user_id=user_id,
        document=document,
        request=request,
        control=control,
        retained=retained,
        **given,
    )


def manage_alert(
    user_id: str, document: bytes, request: str, control: str, at_ms: int, *, by: str | None = None
) -> Call:
    """`tasks.config.manage`: one command of a user, or of an operator for the user."""
    # Left out for users, so that earlier workers understand it.
    given = {} if by is None else {"by": by}
    return _call(
        "tasks.config.manage",
        user_id=user_id,
        document=document,
        request=request,
        control=control,
        at_ms=at_ms,
        **given,
    )


def read_back(kind: str, user_id: str, document: bytes, request: str, control: str) -> Call:
    """`tasks.config.read_back`: one query of a user."""
    return _call(
        "tasks.config.read_back",
        kind=kind,
        user_id=user_id,
        document=document,
        request=request,
        control=control,
    )


def apply_rules(users: list[str] | None) -> Call:
    """`tasks.alerts.apply_rules`: for these users, or for all."""
    return _call("tasks.alerts.apply_rules", users=users)


def deliver_mqtt() -> Call:
    """`tasks.notify.deliver_mqtt`."""
    return _call("tasks.notify.deliver_mqtt")


def deliver_database() -> Call:
    """`tasks.notify.deliver_database`."""
    return _call("tasks.notify.deliver_database")


def deliver_channels() -> Call:
    """`tasks.channels.deliver`, on the queue `notify`."""
    return _call("tasks.channels.deliver")


def try_channel(user_id: str, name: str, request: str, control: str) -> Call:
    """`tasks.channels.test`, on the queue `notify`: one user's channel."""
    return _call("tasks.channels.test", user_id=user_id, name=name, request=request, control=control)


def _call(name: str, /, **arguments: Any) -> Call:
    # The task's own `ignore_result` is unknown to a process that does not import it.
    return app.signature(name, kwargs=arguments, options={"ignore_result": True})
