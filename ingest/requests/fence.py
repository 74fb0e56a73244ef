"""What a control process writes before a worker does a request: refused once another process acts.

The lease says who acts, but a process can be suspended between a look at it and what it does next. So Redis
has the name of the process that acts, and compares it in the step that writes.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tasks.servers.redis_client import CONTROL_ACTS, client, text


class Superseded(Exception):
    """Another control process acts: this one must not begin anything any more."""


class Fence:
    """Writes for the process `name`, which may take over while `is_certain` says that it has the lease."""

    def __init__(self, name: str, is_certain: Callable[[], bool]) -> None:
        self._name, self._is_certain = name, is_certain

    def set(self, key: str, value: str, milliseconds: int) -> None:
        """Sets a key that expires. Raises `Superseded`, and `redis.RedisError`."""
        acts = self._try(key, value, milliseconds, "")
        # The one before, or an older state of Redis. If that changes meanwhile, somebody else acts.
        if acts and (not self._is_certain() or self._try(key, value, milliseconds, acts)):
            raise Superseded(f"the control process {acts} acts now")

    def _try(self, key: str, value: str, milliseconds: int, instead_of: str) -> str:
        script = client().register_script(_lua())
        return text(script(keys=[CONTROL_ACTS, key], args=[self._name, instead_of, value, milliseconds]))


@lru_cache
def _lua() -> str:
    return Path(__file__).with_suffix(".lua").read_text()
