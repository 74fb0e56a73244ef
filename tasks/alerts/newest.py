"""The newest reading of each quiet device, so that an older one is not judged as the newest.

A device whose rules are all in order has no state, or one that is not written with every reading. The memory
here costs a field of a hash for each device and batch, is forgotten within two hours, and may be
lost: without it an older reading is judged as if it were the newest.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from redis.client import Pipeline

from tasks.domain.domain import AnyDomain
from tasks.rules.order import PATIENCE_US, Newest
from tasks.servers.redis_client import NEWEST, client

Device = TypeVar("Device", bound=tuple[str, str])

# msgspec's, because each device of each batch comes by here: several times as fast as msgpack's.
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Newest).decode

# A hash for each half hour of arrivals, so that whole ones are forgotten.
SPAN_MS = 1_800_000
KEPT_SPANS = 3
KEEP_SECONDS = KEPT_SPANS * SPAN_MS // 1000


def recall(
    domain: AnyDomain, devices: Sequence[Device], at_ms: int, *, redelivered: bool = False
) -> dict[Device, Newest]:
    """The newest readings of those devices that were quiet shortly before `at_ms`, the time of an arrival.

    For messages that the broker has `redelivered` they are the newest by own time of all that are kept: the
    clock of the gateway, or of the one that had them before, may be wrong. Raises `redis.RedisError`.
    """
    span, into_ms = divmod(at_ms, SPAN_MS)
    found: dict[Device, Newest] = {}
    if redelivered:
        for one in range(span - KEPT_SPANS, span + KEPT_SPANS + 1):
            for device, newest in _read(domain, devices, one).items():
                found[device] = max(found.get(device, newest), newest, key=lambda kept: kept.own)
        return found
    # A reading older than the patience does not make another one late.
    for one in (span, span - 1) if into_ms * 1000 < PATIENCE_US else (span,):
        found |= _read(domain, [device for device in devices if device not in found], one)
    return found


def _read(domain: AnyDomain, devices: Sequence[Device], span: int) -> dict[Device, Newest]:
    if not devices:
        return {}
    values = client().hmget(_key(domain, span), [_field(device) for device in devices])
    return {
        device: unpack(value)
        for device, value in zip(devices, values, strict=True)
        if isinstance(value, bytes)
    }


def note(commands: Pipeline, domain: AnyDomain, newest: Mapping[Device, Newest], at_ms: int) -> None:
    """Adds commands that keep the newest readings of devices that were quiet."""
    if newest:
        key = _key(domain, at_ms // SPAN_MS)
        commands.hset(key, mapping={_field(device): pack(one) for device, one in newest.items()})
        commands.expire(key, KEEP_SECONDS)


def _key(domain: AnyDomain, span: int) -> str:
    return f"{domain.qualified(NEWEST)}:{span}"


def _field(device: tuple[str, str]) -> str:
    return "/".join(device)
