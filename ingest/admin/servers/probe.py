"""Is a process well? Asked on its monitoring port, for the checks of containers: `sluice health PROCESS`."""

import urllib.error
import urllib.request
from typing import Literal, get_args

from ingest.admin.errors import OperatorError
from tasks.settings import Settings

Process = Literal["gateway", "bridge", "control", "worker", "notify", "beat", "flower", "web"]
PROCESSES: tuple[Process, ...] = get_args(Process)

ANSWER_SECONDS = 5.0
HERE = "127.0.0.1"


class Unwell(OperatorError):
    """The process does not answer, or says what is wrong with it."""


def ask(chosen: Settings, process: Process, *, ready: bool, host: str = HERE) -> str:
    """The process's own words when it is well. Raises `Unwell`, within seconds."""
    url = address(chosen, process, ready=ready, host=host)
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - our own http address
            return str(answer.read().decode(errors="replace")).strip()
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise Unwell(f"{process} reports: {said or error.reason}") from error
    except OSError as error:
        raise Unwell(f"{process} does not answer at {url}: {error}") from error


def address(chosen: Settings, process: Process, *, ready: bool, host: str = HERE) -> str:
    """Where the process answers; `{process}` in the host is its name. Raises `Unwell` when it has no port."""
    host = host.replace("{process}", process)
    if process == "flower":
        return f"http://{host}:{chosen.flower_port}/healthcheck"
    if host == HERE and chosen.metrics_host not in {"0.0.0.0", "::"}:  # noqa: S104
        # It listens nowhere else.
        host = chosen.metrics_host
    port = port_of(chosen, process)
    if not port:
        raise Unwell(f"{process} has no port for its metrics and health in the settings")
    return f"http://{host}:{port}/{'readyz' if ready else 'healthz'}"


def port_of(chosen: Settings, process: Process) -> int:
    """The port of a process's metrics and health; 0 where it has none."""
    return {
        "gateway": chosen.gateway_metrics_port,
        "bridge": chosen.bridge_metrics_port,
        "control": chosen.control_metrics_port,
        "worker": chosen.metrics_port,
        "notify": chosen.notify_metrics_port,
        "beat": chosen.beat_metrics_port,
        "flower": chosen.flower_port,
        "web": chosen.web_metrics_port,
    }[process]
