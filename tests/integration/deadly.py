"""For a worker's `--include`: messages that kill or hang the process which works on them, or that no
code can digest.

A payload says by its member `deadly` what it does. Nothing of this is known to the pipeline.
"""

import ctypes
import json
import os
import re
import resource
import signal
from collections.abc import Callable
from typing import Any

from tasks import process, store
from tasks.batch.messages import Message, Row
from tasks.domain.domain import AnyDomain
from tasks.rows import validate, write


def _kill() -> None:
    # As the kernel does when memory runs out.
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_worker() -> None:
    # As the kernel does when memory runs out in a container whose processes are killed together.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _crash() -> None:
    ctypes.string_at(0)


def _eat_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
    try:
        bytearray(8 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _divide() -> None:
    raise ZeroDivisionError("nobody thought of this reading")


def _loop() -> None:
    while True:
        pass


def _match() -> None:
    # In C, with the interpreter's lock: no other thread and no handler of a signal runs meanwhile.
    re.match(r"(a+)+$", "a" * 64 + "b")


DEADLY: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "kill worker": _kill_worker,
    "crash": _crash,
    "memory": _eat_memory,
    "loop": _loop,
    "match": _match,
    "bug": _divide,
}


def _validate(domain: AnyDomain, messages: list[Message]) -> Any:
    for message in messages:
        if b'"deadly"' in message.payload and (deed := DEADLY.get(json.loads(message.payload)["deadly"])):
            deed()
    return VALIDATE(domain, messages)


def _write(connection: Any, domain: AnyDomain, rows: list[Row]) -> Any:
    if any(b"kill in store" in row.line for row in rows):
        _kill()
    written = WRITE(connection, domain, rows)
    if any(b"kill after store" in row.line for row in rows):
        _kill()
    return written


VALIDATE, WRITE = validate.validate, write.write
setattr(process, "validate", _validate)  # noqa: B010 - the type checker knows that modules are not for this
setattr(store, "write", _write)  # noqa: B010
