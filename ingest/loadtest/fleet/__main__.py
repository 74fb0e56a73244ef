"""`python -m ingest.loadtest.fleet`: a simulated fleet that publishes until it is stopped."""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.loadtest.fleet.enroll import dismiss, enroll, run_name
from ingest.loadtest.fleet.fleet import Fleet, Login, Mix
from tasks.observe import logs
from tasks.settings import settings

CONNECT_SECONDS = 20.0
DRAIN_SECONDS = 5.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    *,
    users: Annotated[int, typer.Option(min=1, help="Users.")] = 3,
    devices_per_user: Annotated[int, typer.Option(min=1, help="Devices of each.")] = 10,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second of the whole fleet.")] = 200.0,
    bad_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Share of messages that become dead letters.")
    ] = 0.01,
    violating_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Share of readings with a temperature of 81 to 95 °C.")
    ] = 0.01,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End when stdin ends, for a parent that may be killed.")
    ] = False,
) -> None:
    """Publish as a fleet of devices until Ctrl-C or SIGTERM, and print the totals as JSON each second.

    The devices get credentials of their own, which are removed at the end.
    """
    logs.configure()
    url = settings().owners_database_url().get_secret_value()
    try:
        logins = enroll(url, run_name("demo"), users, devices_per_user)
        try:
            asyncio.run(_publish(logins, rate, Mix(bad_ratio, violating_ratio), with_parent=with_parent))
        finally:
            dismiss(url, logins)
    except (OperatorError, ConnectionError) as error:
        sys.stderr.write(f"fleet: {error}\n")
        sys.exit(1)


async def _publish(logins: list[Login], rate: float, mix: Mix, *, with_parent: bool) -> None:
    chosen = settings()
    fleet = Fleet(logins, rate=rate, qos=1, mix=mix)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if with_parent:
        loop.add_reader(sys.stdin, stopped.set)
    printing = asyncio.create_task(_print_totals(fleet))
    publishing = asyncio.create_task(_run(fleet, chosen.mqtt_host, chosen.mqtt_port))
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((publishing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if publishing.done():
            publishing.result()
        fleet.stop()
        await fleet.drain(DRAIN_SECONDS)
        _print(fleet)
    finally:
        for task in (printing, publishing, stopping):
            task.cancel()
        await asyncio.gather(printing, publishing, stopping, return_exceptions=True)
        await fleet.close()


async def _run(fleet: Fleet, host: str, port: int) -> None:
    await fleet.connect(host, port, CONNECT_SECONDS)
    await fleet.run(None)


async def _print_totals(fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(1.0)
        _print(fleet)


def _print(fleet: Fleet) -> None:
    line = {
        **asdict(fleet.totals),
        "connected": fleet.connected,
        "devices": len(fleet.devices),
        "troubles": fleet.troubles()[:3],
    }
    # A parent that was killed reads no more, but the credentials must still be removed.
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    app()
