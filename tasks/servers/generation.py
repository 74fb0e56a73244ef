"""The generation of the states in Redis: what was written under it is kept while it is the current one.

A restart, a failover and a flush end it; the next one begins when the states have been rebuilt.
"""

from functools import lru_cache
from pathlib import Path

from redis.commands.core import Script

from tasks.servers.redis_client import ALERTS_GENERATION, ALERTS_READY, client, text

_PRELUDE = Path(__file__).with_name("memory.lua")


@lru_cache
def script(path: Path) -> Script:
    """The Lua script, with the functions of `memory.lua` before it."""
    return client().register_script(f"{_PRELUDE.read_text()}\n{path.read_text()}")


def beside(module: str, name: str) -> Script:
    """The script of this name in the folder of a module, given by its `__file__`."""
    return script(Path(module).with_name(name))


def current() -> str:
    """The generation of the states, empty while they are lost. Raises `redis.RedisError`."""
    found: bytes = beside(__file__, "generation.lua")(keys=[ALERTS_READY, ALERTS_GENERATION])
    return text(found)


def identity() -> str:
    """The memory that Redis has; empty for an old copy, as long as no rebuild has begun.

    Another server, another run of one, and the same one after a failover have another memory. Raises
    `redis.RedisError`.
    """
    found: bytes = beside(__file__, "identity.lua")(keys=[ALERTS_READY, ALERTS_GENERATION])
    return text(found)
