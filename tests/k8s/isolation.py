"""Who reaches what, by the NetworkPolicies of the chart and of the servers, which the node enforces."""

import json
from contextlib import suppress

from tests.docker.command import Failed, expect, wait_until
from tests.k8s.cluster import NAMESPACE, Cluster
from tests.k8s.images import PROJECT_IMAGE

DEVICES = {"emqx:1883", "emqx:8883"}
STORES = {"timescaledb:5432", "pgbouncer:6432", "valkey:6379", "redpanda:9093"}
METRICS = {"sluice-worker:9000"}
SERVICE, DASHBOARD = {"emqx:1884"}, {"emqx:18083"}
EVERYTHING = DEVICES | STORES | METRICS | SERVICE | DASHBOARD
# A pod of anybody's, by its namespace.
STRANGERS = {
    "elsewhere": DEVICES,
    "monitoring": DEVICES | METRICS | DASHBOARD,
    "keda": DEVICES | {"valkey:6379", "redpanda:9093"},
    NAMESPACE: DEVICES | STORES,
}
# Of Sluice's own: their egress is limited as well.
WORKER = STORES | METRICS | SERVICE | {"emqx:8883"}
START_SECONDS = 90
# The rules for a new pod come a moment after it.
RULES_SECONDS = 20
_POD = "stranger"
_ASK = """
import json, socket, sys
open_ = []
for one in sys.argv[1:]:
    host, port = one.split(":")
    try:
        socket.create_connection((host + ".sluice.svc.cluster.local", int(port)), timeout=2).close()
        open_.append(one)
    except OSError:
        pass
print(json.dumps(open_))
"""


def prove(cluster: Cluster) -> str:
    """Each of the strangers, and the worker, reaches what it shall and nothing else. Raises `Failed`."""
    kubectl = cluster.node.kubectl
    for namespace, wanted in STRANGERS.items():
        if namespace != NAMESPACE:
            kubectl("create", "namespace", namespace)
            kubectl("--namespace", namespace, "wait", "--for=create", "serviceaccount/default")
        run = ("run", _POD, f"--image={PROJECT_IMAGE}", "--restart=Never", "--command", "--", "sleep", "600")
        kubectl("--namespace", namespace, *run)
        ready = ("wait", "--for=condition=Ready", f"pod/{_POD}", f"--timeout={START_SECONDS}s")
        kubectl("--namespace", namespace, *ready, seconds=START_SECONDS + 10)
        _expect(cluster, namespace, _POD, wanted)
    _expect(cluster, NAMESPACE, "deployment/sluice-worker", WORKER)
    for namespace in STRANGERS:
        kubectl("--namespace", namespace, "delete", "pod", _POD, "--force", "--grace-period=0")
        if namespace != NAMESPACE:
            kubectl("delete", "namespace", namespace, seconds=120)
    return f"from {len(STRANGERS)} namespaces and from the worker: the wanted ones of {len(EVERYTHING)} ports"


def _expect(cluster: Cluster, namespace: str, pod: str, wanted: set[str]) -> None:
    found: set[str] = set()

    def holds() -> bool:
        nonlocal found
        ask = ("exec", pod, "--", "python", "-c", _ASK, *sorted(EVERYTHING))
        found = set(json.loads(cluster.node.kubectl("--namespace", namespace, *ask, seconds=90)))
        return found == wanted

    with suppress(Failed):
        wait_until(holds, RULES_SECONDS, "the rules")
    more, less = sorted(found - wanted), sorted(wanted - found)
    expect(not more and not less, f"{pod} of {namespace} reaches {more}, and does not reach {less}")
