"""Hostile payloads and topics to each decoder and each example: one outcome, in bounded time and memory.

The fast way of validation must have the outcome of the other one.

`python -m tests.chaos.fuzz_forms` sends a hundred thousand to each; the unit tests send fewer.
"""

import argparse
import gzip
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import cbor2
import msgpack

from ingest.admin.domains.domain_try import load
from tasks.domain.codecs import Encoding, decode
from tasks.domain.form import Form
from tasks.domain.payload import Limits, Refused
from tasks.domain.reader import Reader
from tasks.domain.template import Template
from tests.device_page import promises
from tests.unit.tasks.domain.hostile import compare_a_hostile_one

LIMITS = Limits(max_bytes=16_384)
# No input of 16 KiB may take longer, on a busy machine, nor leave more memory at its peak.
MOST_SECONDS = 5.0
MOST_BYTES = 64 * 1024 * 1024
VALUES: tuple[Any, ...] = (
    *({"t": 21.5, "a": [1, None, True, "x"]}, [{"t": 1}] * 20, {"d": [{"ts": 1, "values": {"x": 1}}]}),
    *(-1, 2**63, 1e308, "21.5 °C", "nan", {}, [], {"": {"": [{}]}}),
)
INTERESTING = (
    *(0x00, 0x1F, 0x5B, 0x7B, 0x7F, 0x80, 0x8F, 0x9B, 0x9F, 0xBB, 0xBF, 0xC1, 0xC5),
    *range(0xD8, 0x100),
)


def mutated(chance: random.Random, seed: bytes) -> bytes:
    """The bytes with a few of them changed, cut, repeated or put in."""
    data = bytearray(seed)
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 4):
            case 0:
                data[at : at + 1] = bytes([chance.choice(INTERESTING)])
            case 1:
                data[at:at] = bytes([chance.choice(INTERESTING)]) * chance.choice([1, 2, 40, 2000])
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = data[: chance.randint(0, len(data))]
            case _:
                del data[at:]
    return bytes(data[: LIMITS.max_bytes + 10])


def decoders() -> dict[str, Callable[[random.Random], object]]:
    """What takes one hostile input, by its name."""

    def of(encoding: Encoding, encode: Callable[[Any], bytes]) -> Callable[[random.Random], object]:
        seeds = [encode(value) for value in VALUES]
        return lambda chance: decode(
            mutated(chance, chance.choice(seeds)),
            (encoding, "gzip", "zlib"),
            LIMITS,
            nan=chance.random() < 0.5,
        )

    def written(value: Any) -> bytes:
        return json.dumps(value).encode()

    return {
        "json": of("json", written),
        "text": of("text", lambda value: str(value).encode()),
        "cbor": of("cbor", cbor2.dumps),
        "msgpack": of("msgpack", msgpack.packb),
        "gzip": of("gzip", lambda value: gzip.compress(written([value] * 50))),
        "zlib": of("zlib", lambda value: zlib.compress(b" " * 15_000 + written(value))),
        "arrays": _split,
        "topics": _match,
        "examples": _example(),
        "fast way": compare_a_hostile_one,
    }


def _split(chance: random.Random) -> object:
    reader = Reader(Form(each=chance.choice(["*", "d.*", "{d}.*", "d.*.values"])), [], time="time", key=())
    seed = json.dumps(chance.choice(VALUES)).encode()
    return reader.elements(mutated(chance, seed), {}, LIMITS)


def _match(chance: random.Random) -> object:
    parts = ["home", "a", "", "up", "status", "v3", "x@y", "é", "{d}", "+", "#", "a" * 600, "\n", "\udcff"]
    template = Template(chance.choice(["home/{p...}/{d}/{q}", "v3/{a}@{b}/{d*3}/up", "{d...}/status/s:{n}"]))
    return template.match("/".join(chance.choices(parts, k=chance.choice([1, 3, 5, 9, 2000]))))


def _example() -> Callable[[random.Random], object]:
    sent = [(load(one.file), one.topic, one.payload) for one in promises()]

    def take(chance: random.Random) -> object:
        domain, topic, payload = chance.choice(sent)
        return domain.read(topic, mutated(chance, payload), 1_795_165_300_000, LIMITS, place=(1, 2))

    return take


def run(count: int, seed: int) -> dict[str, int]:
    """How many of the inputs of each decoder were refused. Raises `AssertionError` for a fault."""
    refused: dict[str, int] = {}
    for name, take in decoders().items():
        chance = random.Random(f"{seed} {name}")
        refused[name] = 0
        for number in range(count):
            begun = time.monotonic()
            try:
                take(chance)
            except Refused:
                refused[name] += 1
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}, input {number}: {error!r}") from error
            assert time.monotonic() - begun < MOST_SECONDS, (
                f"{name}, seed {seed}, input {number} took too long"
            )
    return refused


def main() -> None:
    """Runs all of them and prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    tracemalloc.start()
    refused = run(chosen.count, chosen.seed)
    peak = tracemalloc.get_traced_memory()[1]
    assert peak < MOST_BYTES, f"seed {chosen.seed}: {peak} bytes at the peak"
    shown = ", ".join(f"{name} {number}" for name, number in refused.items())
    print(f"seed {chosen.seed}: {chosen.count} inputs each, refused: {shown}; {peak >> 20} MiB at the peak")  # noqa: T201


if __name__ == "__main__":
    main()
