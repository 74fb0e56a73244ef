"""Two of gateway, control and beat under load: one acts, and the other goes on when it is lost."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ingest.health.process_lease import HOLDER
from tests.docker.command import Failed, expect, wait_until
from tests.docker.load import Account
from tests.docker.requests import Requests
from tests.k8s.breaks import ROWS_SECONDS, Breaks
from tests.k8s.cluster import ROLLOUT_SECONDS, Cluster, component, is_ready, workload

PERSON = "ada"
LEASES = {"control": "control", "gateway": "gateway sluice-gateway-0"}
"""The lease of each process that has one."""
PORTS = {"control": 9003, "gateway": 9001}
TWICE = ("gateway", "control", "beat")
# docs/deploy.md promises 5 s after a kill; Kubernetes kills a while after it has taken the order.
TAKEN_OVER_SECONDS = 15.0
ANSWER_SECONDS = 60.0
# A drain that may not evict the second tries again until then.
DRAIN_SECONDS = 20
_STANDS_BY = "on standby"
_ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/readyz').read().decode())"


@dataclass
class Pairs:
    """Two of each, while readings and requests come."""

    breaks: Breaks
    account: Account
    requests: Requests | None = None

    @property
    def _cluster(self) -> Cluster:
        return self.breaks.cluster

    def begin(self) -> str:
        """`helm upgrade` to two of each: all are ready, one of each lease acts, and the other says so."""
        self.requests = Requests(self._cluster, PERSON, self.account)
        self._cluster.upgrade(*(f"--set=processes.{name}.replicas=2" for name in TWICE))
        for name in TWICE:
            self._await_two(name)
        return self._outcome("two of gateway, control and beat are ready, one of each on standby")

    def lose(self, name: str) -> str:
        """The pod that acts is deleted by force; the other acts before there is a new one."""
        acts = self._acts(name)
        self._delete(acts)
        began = time.monotonic()
        wait_until(lambda: self._acts(name) not in {"", acts}, TAKEN_OVER_SECONDS, f"the other {name} to act")
        seconds = time.monotonic() - began
        told = self._outcome(f"the other acts after {seconds:.1f} s")
        self._await_two(name)
        return told

    def lose_beat(self) -> str:
        """Neither waits for the other."""
        self._delete(self._cluster.pods(component("beat"))[0]["metadata"]["name"])
        told = self._outcome("the other goes on")
        self._await_two("beat")
        return told

    def restart(self, name: str) -> str:
        """`kubectl rollout restart`, one pod after the other: never do two hold the broker's session."""
        former = self._cluster.pods(component(name))
        self._cluster.kubectl("rollout", "restart", workload(name))
        self._cluster.await_rollout(name)
        self._cluster.await_replaced(component(name), former, ROLLOUT_SECONDS)
        self._await_two(name)
        for pod in self._cluster.pods(component(name)):
            told = self._cluster.kubectl("logs", pod["metadata"]["name"])
            expect("mqtt_session_taken_over" not in told, f"two of {name} were at the broker at once")
        return self._outcome("both replaced, no session taken over")

    def drain(self, name: str) -> str:
        """A drain evicts one of the two; the budget keeps the other until there is a new one."""
        former = self._cluster.pods(component(name))
        node = former[0]["spec"]["nodeName"]
        options = (
            f"--pod-selector={component(name)}",
            "--delete-emptydir-data",
            f"--timeout={DRAIN_SECONDS}s",
        )
        try:
            expect(not self._drains(node, options), "a drain of the only node has evicted both")
            now = {pod["metadata"]["uid"] for pod in self._cluster.pods(component(name)) if is_ready(pod)}
            kept = now & {pod["metadata"]["uid"] for pod in former}
            expect(len(kept) == 1, f"{len(kept)} of two are left")
            told = self._outcome("one evicted, one kept by its budget")
        finally:
            self._cluster.kubectl("uncordon", node)
        self._await_two(name)
        return told

    def end(self) -> str:
        """One of each again; each request was answered, and the table has the rules of the last."""
        self._cluster.upgrade(*(f"--set=processes.{name}.replicas=1" for name in TWICE))
        for name in TWICE:
            wait_until(lambda of=name: self._count(of) == 1, ROLLOUT_SECONDS, f"one pod of {name}")  # type: ignore[misc]
        told = self._outcome("one of each")
        self._asked().stop()
        return told

    def _asked(self) -> Requests:
        if self.requests is None:
            raise Failed("there are no requests")
        return self.requests

    def _drains(self, node: str, options: tuple[str, ...]) -> bool:
        try:
            self._cluster.kubectl("drain", node, *options, seconds=DRAIN_SECONDS + 30)
        except Failed:
            return False
        return True

    def _acts(self, name: str) -> str:
        """The pod that has the lease; empty when none has."""
        with self._cluster.database() as connection:
            row = connection.execute(HOLDER, [LEASES[name]]).fetchone()
        return "" if row is None else str(row[0]).partition("@")[2]

    def _delete(self, pod: str) -> None:
        self._cluster.kubectl("delete", "pod", pod, "--force", "--grace-period=0", seconds=120)

    def _count(self, name: str) -> int:
        return len(self._cluster.objects("pods", f"--selector={component(name)}"))

    def _await_two(self, name: str) -> None:
        """Returns when both pods are ready, and those with a lease say who acts. Raises `Failed`."""

        def holds() -> bool:
            with suppress(Failed):
                pods = self._cluster.pods(component(name))
                if len(pods) != 2 or not all(map(is_ready, pods)):
                    return False
                if name not in LEASES:
                    return True
                said = {pod["metadata"]["name"]: self._said(name, pod["metadata"]["name"]) for pod in pods}
                acts = self._acts(name)
                others = [text for pod, text in said.items() if pod != acts]
                works = said.get(acts, "").startswith("ok") and _STANDS_BY not in said[acts]
                return works and len(others) == 1 and _STANDS_BY in others[0]
            return False

        wait_until(holds, ROLLOUT_SECONDS, f"one {name} to act and one to be on standby")

    def _said(self, name: str, pod: str) -> str:
        ask = _ASK.format(port=PORTS[name])
        return self._cluster.kubectl("exec", pod, "--", "python", "-c", ask).strip()

    def _outcome(self, told: str) -> str:
        """Rows and answers come again, and none is lost; raises `Failed` otherwise."""
        seconds = self._asked().await_answer(ANSWER_SECONDS)
        stored = self.breaks.load.await_stored(ROWS_SECONDS)
        outcome = self.breaks.load.settle()
        expect(not outcome.lost and not outcome.doubled, f"{told}; {outcome}")
        answered = self._asked().settle()
        return (
            f"{told}; an answer after {seconds:.0f} s, rows after {stored:.0f} s more; {outcome}; {answered}"
        )


def parts(pairs: Pairs) -> list[tuple[str, Callable[[], str]]]:
    """The proofs by their names, in the order in which they are run."""
    return [
        *(
            (
                f"The pod of two of {name} that acts deleted by force under load",
                lambda of=name: pairs.lose(of),
            )
            for name in LEASES
        ),
        ("A pod of two beats deleted by force under load", pairs.lose_beat),
        *(
            (f"`kubectl rollout restart` of two of {name} under load", lambda of=name: pairs.restart(of))
            for name in LEASES
        ),
        ("`kubectl drain` of two of control under load", lambda: pairs.drain("control")),
    ]
