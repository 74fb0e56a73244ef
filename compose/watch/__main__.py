"""`python -m compose.watch`: the command."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.live import Live

from compose.watch import polling, screen
from compose.watch.counts import Counts
from compose.watch.fleet_process import FleetProcess
from tasks.servers import database
from tasks.settings import Settings, settings

LINE_SECONDS = 5.0
FRAME_SECONDS = 0.5
ARRIVE_SECONDS = 4.0
DEFAULT_ENV = ".local/env"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    *,
    fleet: Annotated[bool, typer.Option(help="Run a simulated fleet meanwhile.")] = True,
    users: Annotated[int, typer.Option(min=1, help="Users of the fleet.")] = 3,
    devices_per_user: Annotated[int, typer.Option(min=1, help="Devices of each.")] = 10,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second of the whole fleet.")] = 200.0,
    svg: Annotated[
        Path | None, typer.Option(help="Write the last view to this file, as an SVG picture.")
    ] = None,
) -> None:
    """Show what the pipeline does until Ctrl-C, by default while a simulated fleet publishes.

    A server that does not answer is shown as away, with its reason; nothing here ends because of it.
    """
    console = Console(highlight=False)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    watch = Watch(settings(), FleetProcess(users, devices_per_user, rate) if fleet else None)
    watch.start()
    try:
        if console.is_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while not stopped.wait(FRAME_SECONDS):
                    live.update(screen.screen(watch.view(), console.height), refresh=True)
        else:
            while not stopped.wait(LINE_SECONDS):
                console.print(screen.line(watch.view()), markup=False, soft_wrap=True)
        if svg is not None:
            svg.write_text(screen.picture(watch.view()))
    finally:
        if fleet:
            console.print("Ending the simulated fleet", style="dim")
        watch.stop()
        console.print(watch.farewell(), markup=False, soft_wrap=True)


class Watch:
    """Reads everything and puts it together."""

    def __init__(self, chosen: Settings, fleet: FleetProcess | None) -> None:
        self._began = polling.now()
        self._fleet = fleet
        self._kafka = polling.kafka(chosen)
        self._pipeline = polling.pipeline()
        self._rows = polling.latest_rows()
        self._restarts = polling.Poller(count, pause=2.0) if (count := _restart_counter()) else None
        self._counts = Counts()
        self._places, self._hints = _places(chosen), _hints(chosen)

    def start(self) -> None:
        """Begins to read, and the fleet to publish."""
        for gauge in (self._kafka, self._pipeline, self._rows, self._restarts):
            if gauge is not None:
                gauge.start()
        if self._fleet is not None:
            self._fleet.start()

    def stop(self) -> None:
        """Ends the fleet, gives its last messages a moment to arrive, and ends the reading."""
        if self._fleet is not None:
            self._fleet.stop()
            end = polling.now() + ARRIVE_SECONDS
            while not self._kafka.away and polling.now() < end:
                # Two readings, since the first may have begun before the last message came.
                time.sleep(2 * polling.PAUSE_SECONDS)
                if self._kafka.value is not None and not self._kafka.value.lag:
                    break
        for gauge in (self._kafka, self._pipeline, self._rows, self._restarts):
            if gauge is not None:
                gauge.stop()

    def view(self) -> screen.View:
        """The view now."""
        flow, counted = self._kafka.value, self._pipeline.value
        latest = self._rows.value
        self._counts.note(flow, counted, polling.now())
        return screen.View(
            up_seconds=polling.now() - self._began,
            received=self._counts.count("messages in"),
            stored=self._counts.count("rows stored"),
            dead_lettered=self._counts.count("dead letters"),
            duplicates=self._counts.count("duplicates"),
            lag=flow.lag if flow else None,
            waited=self._counts.waited,
            latency_ms=counted.get("latency_ms_last") if counted else None,
            restarts=self._restarts.value if self._restarts else None,
            resent=counted.get("resent") if counted else None,
            fleet=self._fleet_now(),
            columns=latest.columns if latest else [],
            rows=latest.rows if latest else [],
            away=self._away(),
            places=self._places,
            hints=self._hints,
        )

    def farewell(self) -> str:
        """The result since `start`."""
        view = self.view()
        grown = self._counts.grown()
        if self._fleet is None:
            return screen.farewell(view, grown)
        totals = self._fleet.totals
        return screen.farewell(view, grown, totals["published"], totals["acknowledged"])

    def _fleet_now(self) -> screen.FleetView | None:
        fleet = self._fleet
        if fleet is None:
            return None
        return screen.FleetView(fleet.devices, fleet.connected, fleet.totals["published"])

    def _away(self) -> dict[str, str]:
        reasons = {
            "Kafka": self._kafka.away,
            "Redis": self._pipeline.away,
            "PostgreSQL": self._rows.away,
        }
        away = {name: reason for name, reason in reasons.items() if reason}
        if self._fleet is not None and self._fleet.away:
            away["the fleet"] = self._fleet.away
        return away


def _restart_counter() -> Callable[[], dict[str, int]] | None:
    """Reads how often the supervisor started a process again; `None` where the local stack does not run."""
    from compose.local.stack import Stack  # noqa: PLC0415 - only a checkout has it

    stack = Stack(_env_file().parent)
    return stack.restarts if stack.running() else None


def _env_file() -> Path:
    return Path(os.environ.get("SLUICE_ENV_FILE", DEFAULT_ENV))


def _places(chosen: Settings) -> list[tuple[str, str]]:
    url = chosen.database_url.get_secret_value()
    databases = ", ".join(f"{host or 'localhost'}:{port}" for host, port in database.places(url))
    return [
        ("MQTT", f"{chosen.mqtt_host}:{chosen.mqtt_port}"),
        ("PostgreSQL", f"{databases}{urlsplit(url).path}"),
        ("Flower", f"http://127.0.0.1:{chosen.flower_port}"),
        ("Console", f"http://127.0.0.1:{chosen.web_port}/ (the API: /api/v1/)"),
        ("env file", f"{_shown(_env_file())} has the logins"),
    ]


def _hints(chosen: Settings) -> list[str]:
    env = _env_file()
    at = "" if chosen.mqtt_port == 1883 else f" -p {chosen.mqtt_port}"
    return [
        f"""(. {_in_shell(env)}; {_client(env, "psql")} "$DATABASE_URL" -c 'TABLE raw_telemetry LIMIT 5')""",
        f"echo a-password-of-mine | {_sluice()} provision device me desk --password-stdin",
        f"{_client(env, 'mosquitto_pub')} -h {chosen.mqtt_host}{at} -u me/desk -P a-password-of-mine -q 1 \\",
        """  -t users/me/devices/desk/telemetry -m '{"sequence_id":1,"temperature":21.5}'""",
    ]


def _client(env: Path, name: str) -> str:
    """The local stack's own client where there is one, else the host's."""
    own = env.parent / "bin" / name
    return _in_shell(own) if own.exists() else name


def _sluice() -> str:
    command = Path(sys.executable).parent / "sluice"
    return _in_shell(command) if command.exists() else "sluice"


def _shown(path: Path) -> str:
    """The path as it is typed in the folder in which this runs, short where that is possible."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _in_shell(path: Path) -> str:
    return shlex.quote(_shown(path))


if __name__ == "__main__":
    app()
