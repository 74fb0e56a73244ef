"""`make chaos`: every fault under load, in an order of chance, and a hundred thousand hostile messages."""

import os
from typing import Annotated

import pytest
import typer


def main(
    seed: Annotated[int | None, typer.Option(help="Of the order and of the messages; printed.")] = None,
    seconds: Annotated[float, typer.Option(help="How long hangs and outages last.")] = 15,
    long: Annotated[bool, typer.Option("--long", help="They last 60 s.")] = False,
    only: Annotated[str, typer.Option(help="These faults alone, `NAME,…`.")] = "",
    messages: Annotated[int, typer.Option(help="Hostile messages; 0 leaves them out.")] = 100_000,
) -> None:
    """Runs on servers of its own and prints a table; the figures are in .local/chaos/seed-N.json."""
    os.environ |= {
        "CHAOS": "all",
        "CHAOS_SEED": "" if seed is None else str(seed),
        "CHAOS_SECONDS": str(60 if long else seconds),
        "CHAOS_ONLY": only,
        "CHAOS_MESSAGES": str(messages),
    }
    chosen = ["tests/chaos/test_faults.py", *(["tests/chaos/test_fuzz.py"] if messages else [])]
    raise SystemExit(pytest.main([*chosen, "--tb=short", "-q"]))


if __name__ == "__main__":
    typer.run(main)
