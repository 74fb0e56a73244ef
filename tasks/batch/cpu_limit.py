"""A limit on the CPU time of a block: the kernel kills a process that uses more.

Nothing else stops a loop inside a C extension, such as a regular expression. Waiting for a server costs no
CPU time, so an outage never looks like a message that hangs.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Kills this process by SIGPROF when the block uses more than `seconds` of CPU time, in all threads."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def cpu_unlimited() -> Iterator[None]:
    """Stops the count around a block whose work is not caused by a message."""
    left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, left)


def exceeded(error: BaseException | None) -> bool:
    """Whether a child of the worker was lost because it exceeded its limit."""
    # Celery has no better place for the signal than the text.
    return signal.SIGPROF.name in str(error)
