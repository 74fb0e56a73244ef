"""`make fuzz`: a hundred thousand hostile MQTT requests to a stack of every domain that ships."""

import os
from typing import Annotated

import pytest
import typer


def main(
    seed: Annotated[int | None, typer.Option(help="Of the requests; printed.")] = None,
    requests: Annotated[int, typer.Option(help="How many.")] = 100_000,
    minutes: Annotated[float, typer.Option(help="Fewer, where these do not suffice.")] = 90,
) -> None:
    """Runs on servers of its own."""
    os.environ |= {
        "CHAOS_SEED": "" if seed is None else str(seed),
        "FUZZ_REQUESTS": str(requests),
        "FUZZ_SECONDS": str(minutes * 60),
    }
    raise SystemExit(pytest.main(["tests/chaos/test_mqtt_fuzz.py", "--tb=short", "-q", "-s"]))


if __name__ == "__main__":
    typer.run(main)
