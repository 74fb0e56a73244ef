"""Promises of the chart that hold under load, while pods are replaced, deleted, scaled, upgraded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.docker.command import expect, wait_until
from tests.docker.load import Account, Load
from tests.k8s.cluster import (
    NAMESPACE,
    PROCESSES,
    ROLLOUT_SECONDS,
    Cluster,
    component,
    is_ready,
    workload,
)
from tests.k8s.images import NEXT_IMAGE, PROJECT_IMAGE, TABLE

ROWS_SECONDS = 150.0
DELETED = ("gateway", "bridge", "control", "worker", "beat")
# The broker is left out: Mosquitto in the place of EMQX writes what waits to the disk every ten seconds.
DELETED_SERVERS = ("valkey", "pgbouncer", "timescaledb", "redpanda")
SCALED = ("worker", "bridge")


@dataclass
class Breaks:
    """Everything under load; each leaves a cluster that is well, or says what is not."""

    cluster: Cluster
    load: Load

    @classmethod
    def begin(cls, cluster: Cluster, accounts: dict[str, Account]) -> "Breaks":
        """With the load running."""
        made = cls(cluster, Load(cluster, accounts))
        made.load.await_stored(ROWS_SECONDS)
        return made

    def restart(self, name: str) -> str:
        """`kubectl rollout restart` replaces the pod."""
        former = self.cluster.pods(component(name))
        self.cluster.kubectl("rollout", "restart", workload(name))
        self.cluster.await_rollout(name)
        self.cluster.await_replaced(component(name), former, ROLLOUT_SECONDS)
        return self._outcome("replaced")

    def delete(self, selector: str) -> str:
        """The pod is deleted by force: its processes are killed, and Kubernetes makes another."""
        former = self.cluster.pods(selector)
        expect(former, f"there is no pod of {selector}")
        names = [pod["metadata"]["name"] for pod in former]
        self.cluster.kubectl("delete", "pods", "--force", "--grace-period=0", *names, seconds=120)
        seconds = self.cluster.await_replaced(selector, former, ROLLOUT_SECONDS)
        return self._outcome(f"ready again after {seconds:.0f} s")

    def scale(self, name: str) -> str:
        """From one pod to three and back."""
        for count in (3, 1):
            self.cluster.kubectl("scale", workload(name), f"--replicas={count}")
            self._await_count(name, count)
        return self._outcome("three pods, and one again")

    def evict(self, name: str) -> str:
        """A drain of the node moves the pod as its budget allows; here it comes back to the same node."""
        former = self.cluster.pods(component(name))
        node = former[0]["spec"]["nodeName"]
        options = (f"--pod-selector={component(name)}", "--delete-emptydir-data", "--timeout=120s")
        try:
            self.cluster.kubectl("drain", node, *options, seconds=150)
        finally:
            self.cluster.kubectl("uncordon", node)
        seconds = self.cluster.await_replaced(component(name), former, ROLLOUT_SECONDS)
        return self._outcome(f"evicted, ready again after {seconds:.0f} s")

    def upgrade(self) -> str:
        """`helm upgrade` to an image with one more migration."""
        told = self._replaced_by(lambda: self.cluster.upgrade(f"--set=image.tag={_tag(NEXT_IMAGE)}"))
        with self.cluster.database() as connection:
            found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [TABLE]).fetchone()
        expect(found == (True,), "the migration has not run")
        return self._outcome(f"migrated, {told}")

    def rollback(self) -> str:
        """`helm rollback`: the processes of the version before work with the newer tables."""
        told = self._replaced_by(
            lambda: self.cluster.helm("rollback", "sluice", "--wait", f"--timeout={ROLLOUT_SECONDS}s")
        )
        return self._outcome(told)

    def failed_upgrade(self) -> str:
        """An upgrade whose setup fails replaces no pod: here that of a version older than the tables."""
        former = self._processes()
        self.cluster.refused("--wait", "--timeout=40s", f"--set=image.tag={_tag(PROJECT_IMAGE)}")
        told = self.cluster.kubectl("logs", "job/sluice-setup")
        expect("newer version of Sluice" in told, f"setup says {told[-300:]}")
        expect(self._processes() == former, "pods were replaced")
        return self._outcome("setup refuses the newer tables, Helm fails, no pod is replaced")

    def changed_pool(self) -> str:
        """A changed file of a server reaches it with setup_local.sh, which may run again at any time."""
        former = self.cluster.pods("app.kubernetes.io/name=pgbouncer")
        others = {pod["metadata"]["uid"] for pod in self._servers()} - {former[0]["metadata"]["uid"]}
        path = self.cluster.checkout / "compose" / "pgbouncer" / "pgbouncer.ini"
        with path.open("a") as file:
            file.write("\n; changed\n")
        self.cluster.script("setup_local.sh")
        self.cluster.await_replaced("app.kubernetes.io/name=pgbouncer", former, ROLLOUT_SECONDS)
        now = {pod["metadata"]["uid"] for pod in self._servers()}
        expect(others <= now, "another server was replaced, too")
        return self._outcome("PgBouncer's pod is another, no other server's")

    def down_up(self) -> str:
        """teardown.sh keeps volumes and Secrets, and setup_local.sh finds them."""
        before = self._rows()
        self.cluster.script("teardown.sh")
        left = [pod["metadata"]["name"] for pod in self.cluster.objects("pods")]
        wait_until(lambda: not self.cluster.objects("pods"), 120, f"the end of the pods {left}")
        kinds = "deployments,statefulsets,jobs,services,networkpolicies,poddisruptionbudgets"
        kept = [
            name
            for one in self.cluster.objects(kinds)
            if not (name := one["metadata"]["name"]).startswith("test-")
        ]
        expect(not kept, f"teardown.sh leaves {', '.join(kept)}")
        claims = self.cluster.objects("persistentvolumeclaims")
        self.cluster.script("setup_local.sh")
        expect(self._rows() >= before, "rows are gone")
        return self._outcome(f"{before:,} rows in {len(claims)} volumes are kept")

    def end(self) -> str:
        """The last reading is acknowledged, and stored once."""
        self.load.stop()
        outcome = self.load.settle()
        expect(not outcome.lost and not outcome.doubled, str(outcome))
        return str(outcome)

    def remove_all(self) -> str:
        """teardown.sh with --data removes the namespace with everything in it."""
        self.cluster.script("teardown.sh", "--data")
        left = self.cluster.node.kubectl("get", "namespaces", "--output=name")
        expect(f"namespace/{NAMESPACE}\n" not in left, left)
        return "the namespace is gone"

    def _replaced_by(self, work: Callable[[], object]) -> str:
        """Does something by which all processes get new pods of their newest version."""
        former = {name: self.cluster.pods(component(name)) for name in PROCESSES}
        work()
        for name, pods in former.items():
            self.cluster.await_replaced(component(name), pods, ROLLOUT_SECONDS)
        return f"{len(former)} processes replaced"

    def _processes(self) -> set[str]:
        """The ids of the pods of Sluice."""
        return {pod["metadata"]["uid"] for name in PROCESSES for pod in self.cluster.pods(component(name))}

    def _await_count(self, name: str, count: int) -> None:
        def holds() -> bool:
            pods = self.cluster.objects("pods", f"--selector={component(name)}")
            return len(pods) == count and all(map(is_ready, pods))

        wait_until(holds, ROLLOUT_SECONDS, f"{count} pods of {name}")
        self.load.await_stored(ROWS_SECONDS)

    def _servers(self) -> list[dict[str, Any]]:
        return [
            pod
            for name in (*DELETED_SERVERS, "emqx")
            for pod in self.cluster.pods(f"app.kubernetes.io/name={name}")
        ]

    def _outcome(self, told: str) -> str:
        """Waits until readings are stored again; raises `Failed` when one is lost or there twice."""
        seconds = self.load.await_stored(ROWS_SECONDS)
        outcome = self.load.settle()
        expect(not outcome.lost and not outcome.doubled, f"{told}; {outcome}")
        return f"{told}; rows again after {seconds:.0f} s more; {outcome}"

    def _rows(self) -> int:
        with self.cluster.database() as connection:
            row = connection.execute("SELECT count(*) FROM raw_telemetry").fetchone()
        assert row is not None
        return int(row[0])


def replaced(breaks: Breaks) -> list[tuple[str, Callable[[], str]]]:
    """The proofs about single pods by their names, in the order in which they are run."""
    return [
        *(
            (f"`kubectl rollout restart` of {name} under load", lambda of=name: breaks.restart(of))
            for name in PROCESSES
        ),
        *(
            (f"The pod of {name} deleted by force under load", lambda of=name: breaks.delete(component(of)))
            for name in DELETED
        ),
        *(
            (
                f"The pod of {name} deleted by force under load",
                lambda of=name: breaks.delete(f"app.kubernetes.io/name={of}"),
            )
            for name in DELETED_SERVERS
        ),
        *((f"{name} scaled 1→3→1 under load", lambda of=name: breaks.scale(of)) for name in SCALED),
        ("`kubectl drain` of the worker's pod under load", lambda: breaks.evict("worker")),
    ]


def upgraded(breaks: Breaks) -> list[tuple[str, Callable[[], str]]]:
    """The proofs about scripts and upgrades by their names, in the order in which they are run."""
    return [
        ("A changed pgbouncer.ini, by setup_local.sh under load", breaks.changed_pool),
        ("teardown.sh and setup_local.sh under load keep rows", breaks.down_up),
        # The last: setup_local.sh would set up the version before.
        ("`helm upgrade` with a migration under load", breaks.upgrade),
        ("`helm rollback` under load", breaks.rollback),
        ("An upgrade that fails, under load", breaks.failed_upgrade),
    ]


def _tag(image: str) -> str:
    return image.partition(":")[2]
