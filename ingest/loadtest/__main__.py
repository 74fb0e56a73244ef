"""`python -m ingest.loadtest`: the command."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console

from ingest.admin.errors import OperatorError
from ingest.loadtest import report
from ingest.loadtest.run import Servers, run
from tasks.observe import logs, tracing
from tasks.settings import settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    *,
    users: Annotated[
        int, typer.Option(min=1, help="Users; their ids begin with a name made for this run.")
    ] = 6,
    devices_per_user: Annotated[int, typer.Option(min=1, help="Devices, each with its own connection.")] = 10,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second of the whole fleet.")] = 500.0,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds of publishing.")] = 60.0,
    settle: Annotated[
        float, typer.Option(min=0, help="Longest time, in seconds, for everything to arrive afterwards.")
    ] = 60.0,
    qos: Annotated[int, typer.Option(min=0, max=1, help="QoS; with 0, MQTT itself may lose messages.")] = 1,
    bad_ratio: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of messages that must become dead letters, of every kind."),
    ] = 0.02,
    violating_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Share of readings with a temperature of 81 to 95 °C.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="The same seed gives the same readings.")] = 1,
    samples_per_second: Annotated[
        float, typer.Option(min=0, help="Messages a second whose latency is measured; 0 measures none.")
    ] = 100.0,
    host: Annotated[str | None, typer.Option(help="MQTT broker. [default: MQTT_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Its port. [default: MQTT_PORT]")] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL, not through PgBouncer. [default: DATABASE_DIRECT_URL, else DATABASE_URL]"
        ),
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka. [default: KAFKA_BOOTSTRAP_SERVERS]")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the result as JSON to this file, or to stdout with `-`."),
    ] = None,
) -> None:
    """Publish as a fleet of devices at a constant rate, then account for every single message.

    The devices get credentials of their own for the run. At the end each message must have become exactly
    one row, or, if it was made bad, exactly one dead letter; the ids of all rows and the bytes of all dead
    letters are compared with what was published, not only their numbers. Messages that a broken connection
    left unacknowledged are published again and count once.

    Latency is from the device's socket to the committed row: the rows of a sample of messages are asked
    for by primary key every few milliseconds, and the values are too long by at most the time between two
    such looks, which is printed with them.

    Exit code 0: nothing lost and nothing doubled; 1: something was, or had not arrived in time; 2: the test
    could not be run.
    """
    logs.configure()
    tracing.begin("loadtest")
    chosen = settings()
    options = report.Options(
        users=users,
        devices_per_user=devices_per_user,
        rate=rate,
        duration=duration,
        qos=qos,
        bad_ratio=bad_ratio,
        violating_ratio=min(violating_ratio, 1 - bad_ratio),
        seed=seed,
        settle=settle,
    )
    servers = Servers(
        mqtt_host=host or chosen.mqtt_host,
        mqtt_port=port or chosen.mqtt_port,
        database_url=SecretStr(database_url) if database_url else chosen.owners_database_url(),
        bootstrap_servers=bootstrap_servers or chosen.kafka_bootstrap_servers,
    )
    console = Console(stderr=True, highlight=False)
    try:
        result = asyncio.run(run(options, servers, samples_per_second, console))
    except OperatorError as error:
        console.print(f"loadtest: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    finally:
        tracing.end()
    report.show(result, console)
    if json_file is not None:
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        if str(json_file) == "-":
            sys.stdout.write(text)
        else:
            json_file.write_text(text)
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    app()
