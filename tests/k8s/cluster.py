"""Sluice on the node: its scripts, its pods, and the ways to them from this machine."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import make_conninfo

from compose.local.layout import PROJECT
from tests.docker.command import Failed, expect, run, wait_until
from tests.docker.load import Connection
from tests.k8s.config import HERE as HOST
from tests.k8s.node import Node

NAMESPACE = "sluice"
HERE = Path(__file__).parent
CHARTS = HERE / "charts"
CHART = "helm-values/sluice"
SCRIPT_SECONDS = 900
ROLLOUT_SECONDS = 300
_VALUES = yaml.safe_load((PROJECT / CHART / "values.yaml").read_text())
PROCESSES = tuple(name for name, process in _VALUES["processes"].items() if process["replicas"])
"""Those of the chart that run when nothing is set."""
STATEFUL = {name for name, process in _VALUES["processes"].items() if process.get("stateful")}
# Addresses that stay when setup_local.sh makes the servers' own Services anew.
_BROKER, _DATABASE = "10.230.0.50", "10.230.0.51"


@dataclass
class Cluster:
    """A copy of the checkout, which is set up on the node."""

    node: Node
    checkout: Path
    forwarded_port: int = 0
    """The broker's port for TLS, while `forwarding` runs."""

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the project's scripts: Helm finds stand-ins for the charts of others."""
        wrapped = self.node.folders.node / "wrapped"
        if not wrapped.exists():
            wrapped.mkdir()
            (wrapped / "helm").symlink_to(HERE / "helm.sh")
        return {
            **self.node.environ,
            "PATH": f"{wrapped}:{self.node.environ['PATH']}",
            "REAL_HELM": str(self.node.folders.programs / "helm"),
            "STANDIN_CHARTS": str(CHARTS),
        }

    def script(self, name: str, *arguments: str) -> str:
        """Runs one of helm-values, as a reader of the docs would run it. Raises `Failed`."""
        argv = [f"helm-values/{name}", *arguments]
        return run(argv, seconds=SCRIPT_SECONDS, environ=self.environ, folder=self.checkout)

    def helm(self, *arguments: str) -> str:
        """What `helm ARGUMENTS` prints, in the checkout. Raises `Failed`."""
        argv = ["helm", "--namespace", NAMESPACE, *arguments]
        return run(argv, seconds=SCRIPT_SECONDS, environ=self.environ, folder=self.checkout)

    def upgrade(self, *options: str) -> None:
        """`helm upgrade` of Sluice with the values that it has, and these; waits until all is ready."""
        self.helm("upgrade", "sluice", CHART, "--reuse-values", "--wait", "--timeout=8m", *options)

    def kubectl(self, *arguments: str, seconds: float = 60, stdin: str = "") -> str:
        """What `kubectl ARGUMENTS` prints, in Sluice's namespace. Raises `Failed`."""
        return self.node.kubectl("--namespace", NAMESPACE, *arguments, seconds=seconds, stdin=stdin)

    def objects(self, kinds: str, *arguments: str) -> list[dict[str, Any]]:
        """The objects of some kinds, `a,b`. Raises `Failed`."""
        listed = json.loads(self.kubectl("get", kinds, "--output=json", *arguments))
        found: list[dict[str, Any]] = listed["items"]
        return found

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """The pods with these labels that are not on their way out."""
        found = self.objects("pods", f"--selector={selector}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def operator(self, script: str, seconds: float = 240) -> str:
        """The output of an operator's commands, run as the docs say."""
        return self.kubectl("exec", "deployment/sluice-admin", "--", "sh", "-euc", script, seconds=seconds)

    def secret(self, name: str) -> str:
        """A password, from its file."""
        return (self.checkout / "compose" / "secrets" / name).read_text().strip()

    def broker(self, *, tls: bool = False) -> tuple[str, int]:
        """The host and the port of MQTT. By TLS it is asked by the name that its certificate has."""
        return ("localhost", self.forwarded_port) if tls else (_BROKER, 1883)

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the broker's."""
        return self.checkout / "compose" / "secrets" / "mqtt_ca.pem"

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """The database as its superuser."""
        conninfo = make_conninfo(
            host=_DATABASE,
            user="postgres",
            password=self.secret("postgres_password"),
            dbname="sluice",
            connect_timeout=5,
        )
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection

    def open_ways(self) -> None:
        """Services and a policy of the tests' own, by which this machine reaches broker and database."""
        ways = (("emqx", _BROKER, 1883), ("timescaledb", _DATABASE, 5432))
        documents = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"test-{name}"},
                "spec": {
                    "clusterIP": address,
                    "selector": {"app.kubernetes.io/name": name},
                    "ports": [{"port": port}],
                },
            }
            for name, address, port in ways
        ]
        # Other policies let only pods of this namespace in.
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "test-database"},
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "timescaledb"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"ipBlock": {"cidr": f"{HOST}/32"}}], "ports": [{"port": 5432}]}],
            },
        }
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all([*documents, policy]))

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """`kubectl port-forward` of the broker's port for TLS, while the block runs."""
        argv = ["kubectl", "--namespace", NAMESPACE, "port-forward", "service/emqx", ":8883"]
        child = subprocess.Popen(
            argv, stdout=subprocess.PIPE, text=True, env=self.node.environ, start_new_session=True
        )
        try:
            line = child.stdout.readline() if child.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise Failed(f"kubectl forwards no port: {line}")
            self.forwarded_port = int(found[1])
            yield
        finally:
            child.terminate()
            child.wait()
            if child.stdout:
                child.stdout.close()

    def await_rollout(self, name: str) -> None:
        """Returns when all pods of a process are of its newest version, and ready. Raises `Failed`."""
        seconds = ROLLOUT_SECONDS
        self.kubectl("rollout", "status", workload(name), f"--timeout={seconds}s", seconds=seconds + 30)

    def await_replaced(self, selector: str, former: Sequence[dict[str, Any]], seconds: float) -> float:
        """Waits until there are as many pods as before, all others, and all ready. Raises `Failed`."""
        before = {pod["metadata"]["uid"] for pod in former}

        def replaced() -> bool:
            with suppress(Failed):
                now = self.pods(selector)
                others = [pod for pod in now if pod["metadata"]["uid"] not in before]
                return len(now) == len(others) == len(former) and all(map(is_ready, now))
            return False

        return wait_until(replaced, seconds, f"new pods of {selector} to be ready")

    def refused(self, *options: str) -> str:
        """What Helm says to an upgrade that fails. Raises `Failed` when it does not."""
        try:
            self.helm("upgrade", "sluice", CHART, "--reuse-values", *options)
        except Failed as error:
            return str(error)
        raise Failed(f"Helm takes {' '.join(options)}")

    def diagnosis(self) -> str:
        """What Kubernetes says of the pods: for the search for the reason."""
        told = []
        for arguments in (("get", "pods,pvc", "--output=wide"), ("get", "events"), ("describe", "pods")):
            with suppress(Failed):
                told.append(self.kubectl(*arguments))
        with suppress(Failed):
            for pod in self.objects("pods"):
                name = pod["metadata"]["name"]
                with suppress(Failed):
                    told.append(f"--- {name}\n{self.kubectl('logs', name, '--all-containers', '--tail=300')}")
        return "\n".join(told)


def component(name: str) -> str:
    """The labels of a process's pods."""
    return f"app.kubernetes.io/instance=sluice,app.kubernetes.io/component={name}"


def workload(name: str) -> str:
    """What keeps a process's pods, as kubectl names it."""
    return f"{'statefulset' if name in STATEFUL else 'deployment'}/sluice-{name}"


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod's probes say that it may work."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector by labels takes in an object with these."""
    wanted = selector.get("matchLabels", {})
    expect(set(selector) <= {"matchLabels", "matchExpressions"}, f"unknown selector {selector}")
    for one in selector.get("matchExpressions", []):
        expect(one["operator"] == "In", f"unknown operator {one['operator']}")
        if labels.get(one["key"]) not in one["values"]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())
