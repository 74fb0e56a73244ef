"""Promises of the chart that hold while nothing breaks."""

import json
import re
from dataclasses import dataclass, field

import yaml

from compose.local.layout import PROJECT
from tests.docker.command import expect, wait_until
from tests.docker.load import DEVICES, USER, Account, connect, disconnect, reading, send, topic
from tests.k8s.cluster import CHART, PROCESSES, Cluster, component, is_ready, selects
from tests.k8s.programs import VERSION

PERSON = "ada"
ROW_SECONDS = 60.0
_ROWS = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s AND sequence_id = %s"
# Objects of operators that are not on the node.
_FOREIGN = ("keda.sh", "monitoring.coreos.com")


@dataclass
class Proofs:
    """The proofs, in the order in which they are run; `accounts` is filled by `provision`."""

    cluster: Cluster
    accounts: dict[str, Account] = field(default_factory=dict)

    def setup(self) -> str:
        """One script sets up everything, and returns when all is ready."""
        self.cluster.kubectl("create", "namespace", "sluice")
        self.cluster.open_ways()
        self.cluster.script("setup_local.sh")
        pods = self.cluster.pods("")
        ill = [pod["metadata"]["name"] for pod in pods if not is_ready(pod)]
        expect(not ill, f"not ready: {', '.join(ill)}")
        return f"setup_local.sh returns, {len(pods)} pods ready"

    def valid(self) -> str:
        """The API server takes every object of the chart with everything on, and knows every field."""
        rendered = yaml.safe_load_all((PROJECT / "helm-values" / "rendered.yaml").read_text())
        objects = [one for one in rendered if not one["apiVersion"].startswith(_FOREIGN)]
        told = self.cluster.kubectl(
            *("apply", "--dry-run=server", "--validate=strict", "--filename=-"),
            stdin=yaml.safe_dump_all(objects),
            seconds=120,
        )
        taken = told.count("(server dry run)")
        expect(taken == len(objects), f"{taken} of {len(objects)} objects: {told[-500:]}")
        return f"{taken} objects with `--validate=strict`"

    def rendered(self) -> str:
        """rendered.yaml is what Helm makes of the chart."""
        path = self.cluster.checkout / "helm-values" / "rendered.yaml"
        before = path.read_text()
        self.cluster.script("render.sh")
        expect(path.read_text() == before, "render.sh makes another rendered.yaml")
        self.cluster.helm("lint", "--strict", "helm-values/sluice")
        return "render.sh makes the same file, `helm lint --strict` passes"

    def policies(self) -> str:
        """By default each pod of Sluice is under a policy, and an eviction waits for the one before."""
        pods = [pod for name in PROCESSES for pod in self.cluster.pods(component(name))]
        policies = [
            one
            for one in self.cluster.objects("networkpolicies")
            if not one["metadata"]["name"].startswith("test-")
        ]
        for pod in pods:
            kinds = {
                kind
                for policy in policies
                if selects(policy["spec"]["podSelector"], pod["metadata"]["labels"])
                for kind in policy["spec"]["policyTypes"]
            }
            expect(kinds == {"Ingress", "Egress"}, f"{pod['metadata']['name']} has policies for {kinds}")
        budgets = self.cluster.objects("poddisruptionbudgets")
        wrong = [
            one["metadata"]["name"]
            for one in budgets
            if one["status"]["expectedPods"] and one["status"]["disruptionsAllowed"] != 1
        ]
        expect(budgets and not wrong, f"budgets that allow another number than one: {wrong}")
        counted = f"{len(policies)} policies over all {len(pods)} pods"
        return f"{counted}; {len(budgets)} budgets, each allows one eviction"

    def restricted(self) -> str:
        """Sluice's pods keep to the strictest of Kubernetes' own standards for pods."""
        label = "pod-security.kubernetes.io/enforce=restricted"
        told = self.cluster.kubectl("label", "--dry-run=server", "--overwrite", "namespace", "sluice", label)
        expect("violat" in told, f"the standard is not looked at: {told}")
        expect("sluice-" not in told, told)
        return "no pod of Sluice violates `restricted`"

    def enclosure(self) -> str:
        """No process is root, none can write outside of /tmp, none has a capability."""
        script = (
            "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status;"
            " for folder in / /app /venv /run/secrets/sluice; do"
            ' if touch $folder/new 2>/dev/null; then echo "wrote to $folder"; fi; done; touch /tmp/new;'
            " stat --dereference --format=mode:%a /run/secrets/sluice/*"
        )
        names = [*PROCESSES, "admin"]
        for name in names:
            (pod,) = self.cluster.pods(component(name))
            told = self.cluster.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", script)
            expect(told.startswith("10001\n"), f"{name} runs as user {told.split()[0]}")
            expect(re.search(r"CapEff:\s+0+\n", told), f"{name} has capabilities")
            expect(re.search(r"NoNewPrivs:\s+1", told), f"{name} may gain privileges")
            expect("wrote to" not in told, f"{name} {told}")
            expect(set(re.findall(r"mode:(\d+)", told)) == {"440"}, f"{name}'s secrets: {told}")
        return f"{len(names)} pods: user 10001, no capability, nothing writable but /tmp, secrets 0440"

    def status(self) -> str:
        """`sluice status` in the operator's pod finds all processes."""
        self.cluster.operator("sluice status")
        return "exits with 0 in the pod `sluice-admin`"

    def provision(self) -> str:
        """Accounts for devices, by the operator's commands."""
        lines = [f"sluice provision device {USER} {device} --json" for device in DEVICES]
        lines += [f"sluice provision device {PERSON} fridge --json", f"sluice provision user {PERSON} --json"]
        told = self.cluster.operator("; ".join(lines))
        made = [Account(**json.loads(line)) for line in told.splitlines() if line.startswith("{")]
        expect(len(made) == len(lines), f"{len(made)} of {len(lines)} accounts: {told[-300:]}")
        self.accounts = dict(zip([*DEVICES, "fridge", PERSON], made, strict=True))
        return f"{len(made)} accounts"

    def row(self, number: int) -> str:
        """A reading becomes a row."""
        return self._row(number, tls=False)

    def row_by_tls(self, number: int) -> str:
        """The same by TLS, with a check of the certificate's name and authority."""
        with self.cluster.forwarding():
            return self._row(number, tls=True)

    def gateways(self) -> str:
        """With a group each gateway has a session under the name of its pod."""
        group = "--set=processes.gateway.env.MQTT_SHARED_GROUP=sluice"
        options = (f"--kube-version={VERSION}", "--set=processes.gateway.replicas=2", group)
        told = self.cluster.helm("template", "sluice", CHART, *options)
        (gateway,) = [
            one
            for one in yaml.safe_load_all(told)
            if one and one["kind"] == "StatefulSet" and one["metadata"]["name"] == "sluice-gateway"
        ]
        (container,) = gateway["spec"]["template"]["spec"]["containers"]
        found = {one["name"]: one for one in container["env"]}["MQTT_CLIENT_ID"]
        wanted = {"fieldRef": {"fieldPath": "metadata.name"}}
        expect(found.get("valueFrom") == wanted, f"MQTT_CLIENT_ID is {found}")
        return "each has the name of its pod as its client id"

    def single(self) -> str:
        """What it shows is in its memory: Helm refuses two of Flower."""
        told = self.cluster.refused("--dry-run", "--set=processes.flower.replicas=2")
        expect("flower" in told, told)
        return "refused"

    def _row(self, number: int, *, tls: bool) -> str:
        client = connect(
            self.cluster, self.accounts["fridge"], authority=self.cluster.authority if tls else None
        )
        try:
            send(client, topic(PERSON, "fridge"), reading(number))
        finally:
            disconnect(client)
        with self.cluster.database() as connection:
            seconds = wait_until(
                lambda: connection.execute(_ROWS, [PERSON, number]).fetchone() == (1,),
                ROW_SECONDS,
                f"the row of reading {number}",
            )
        return f"a row after {seconds:.1f} s"
