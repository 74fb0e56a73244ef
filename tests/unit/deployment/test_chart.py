"""The chart does more than make valid objects: it scales, fits, and refuses what would lose messages."""

import copy
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from compose.local.layout import PROJECT
from tests.unit.deployment.documents import CHART, PROCFILE, RENDERED, VALUES, Document

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def _one(kind: str, name: str) -> Document:
    (found,) = [one for one in RENDERED if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def _millis(cpu: str | int) -> int:
    text = str(cpu)
    return int(text.removesuffix("m")) if text.endswith("m") else 1000 * int(text)


def _requests(document: Document) -> int:
    containers = document["spec"]["template"]["spec"]["containers"]
    return sum(_millis(one["resources"]["requests"]["cpu"]) for one in containers)


def test_keda_gets_names_that_resolve_in_its_own_namespace() -> None:
    """KEDA looks servers up where it runs itself, where the short name of a Service means nothing."""
    triggers = [t for one in RENDERED if one["kind"] == "ScaledObject" for t in one["spec"]["triggers"]]
    places = [t["metadata"].get("bootstrapServers") or t["metadata"]["address"] for t in triggers]
    assert set(places) == {"redpanda.sluice.svc.cluster.local:9093", "valkey.sluice.svc.cluster.local:6379"}


def test_everything_fits_a_node_of_two_cores_during_an_update() -> None:
    """The requests leave half of it to Kubernetes' own pods, also while a process has one pod more."""
    ours = {
        one["metadata"]["name"]: _requests(one)
        for one in RENDERED
        if one["kind"] in {"Deployment", "StatefulSet"}
    }
    servers = PROJECT / "helm-values" / "servers"
    objects = [one for path in servers.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    theirs = [_requests(one) for one in objects if one["kind"] in {"Deployment", "StatefulSet"}]
    charts = [
        _millis(yaml.safe_load((PROJECT / "helm-values" / "charts" / f"{name}.yaml").read_text())
                ["resources"]["requests"]["cpu"])
        for name in ("redpanda", "valkey")
    ]  # fmt: skip
    assert sum(ours.values()) + max(ours.values()) + sum(theirs) + sum(charts) <= 1000


@pytest.mark.parametrize(
    ("process", "change", "taken"),
    [
        ("flower", {"replicas": 2}, False),
        ("gateway", {"replicas": 2}, True),
        ("control", {"replicas": 2}, True),
        ("beat", {"replicas": 2}, True),
        ("worker", {"replicas": 3}, True),
    ],
)
def test_what_may_not_run_twice_is_refused(process: str, change: dict[str, Any], taken: bool) -> None:
    """Helm checks values.schema.json before it installs or upgrades anything."""
    values = copy.deepcopy(VALUES)
    values["processes"][process].update(change)
    jsonschema.validate(VALUES, SCHEMA)
    errors = list(jsonschema.Draft7Validator(SCHEMA).iter_errors(values))
    assert (errors == []) == taken


def test_gateways_without_a_group_are_one_client() -> None:
    """The lease is that of a client id: under two names each gateway would take every message."""
    (container,) = _one("StatefulSet", "sluice-gateway")["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one for one in container["env"]}
    assert env["MQTT_SHARED_GROUP"]["value"] == ""
    assert env["MQTT_CLIENT_ID"] == {"name": "MQTT_CLIENT_ID", "value": "sluice-gateway-0"}


@pytest.mark.parametrize("name", sorted(PROCFILE))
def test_a_process_that_may_run_twice_is_replaced_and_evicted_one_by_one(name: str) -> None:
    """A new pod is ready, at work or on standby, before an old one ends; a drain waits for it; two nodes."""
    process = VALUES["processes"][name]
    spec = _one("StatefulSet" if process.get("stateful") else "Deployment", f"sluice-{name}")["spec"]
    labels = {"app.kubernetes.io/instance": "sluice", "app.kubernetes.io/component": name}
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": labels} == spec["selector"]
    single = process.get("single", False)
    assert single == (name == "flower")
    if not process.get("stateful"):
        assert spec["strategy"]["type"] == ("Recreate" if single else "RollingUpdate")
    budgets = [
        one["spec"]
        for one in RENDERED
        if one["kind"] == "PodDisruptionBudget" and one["metadata"]["name"] == f"sluice-{name}"
    ]
    assert budgets == ([] if single else [{"maxUnavailable": 1, "selector": {"matchLabels": labels}}])


def test_an_upgrade_takes_up_changed_settings_and_passwords() -> None:
    """Pods read both when they start; a digest of each is in the annotations of every process."""
    for name in PROCFILE:
        kind = "StatefulSet" if VALUES["processes"][name].get("stateful") else "Deployment"
        annotations = _one(kind, f"sluice-{name}")["spec"]["template"]["metadata"]["annotations"]
        assert all(
            re.fullmatch(r"[0-9a-f]{64}", annotations[f"checksum/{of}"]) for of in ("settings", "secret")
        )
    admin = _one("Deployment", "sluice-admin")["spec"]["template"]["metadata"]["annotations"]
    assert admin["checksum/settings"] == annotations["checksum/settings"]
    source = (CHART / "templates" / "processes.yaml").read_text()
    assert 'lookup "v1" "Secret" $.Release.Namespace $.Values.existingSecret' in source


def test_the_operators_commands_run_inside_the_cluster() -> None:
    """The pod for `kubectl exec` has the settings of the processes, and the database as its owner."""
    admin = _one("Deployment", "sluice-admin")["spec"]["template"]["spec"]
    (container,) = admin["containers"]
    (worker,) = _one("Deployment", "sluice-worker")["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == worker["envFrom"]
    job = _one("Job", "sluice-setup")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in admin["volumes"]}
    assert volumes["secrets"] in job["volumes"]
    assert "sluice-owner" in str(volumes["secrets"])


def test_status_in_a_pod_finds_every_process_by_its_service() -> None:
    """`PROCESS_HOST` names the Service of each process, and the policy lets the question through."""
    (container,) = _one("Deployment", "sluice-admin")["spec"]["template"]["spec"]["containers"]
    (host,) = [one["value"] for one in container["env"] if one["name"] == "PROCESS_HOST"]
    found = {one["metadata"]["name"]: one["spec"] for one in RENDERED if one["kind"] == "Service"}
    services = found.keys()
    assert all(found[f"sluice-{name}"]["publishNotReadyAddresses"] for name in PROCFILE)
    assert {host.replace("{process}", name) for name in PROCFILE} <= services
    own = {"app.kubernetes.io/part-of": "sluice", "app.kubernetes.io/instance": "sluice"}
    policy = _one("NetworkPolicy", "sluice")["spec"]
    assert {"podSelector": {"matchLabels": own}} in policy["ingress"][0]["from"]


def test_the_job_of_an_upgrade_does_not_stay() -> None:
    """One that succeeded goes at once; one that failed stays for its log until the next."""
    annotations = _one("Job", "sluice-setup")["metadata"]["annotations"]
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"


def test_a_login_for_kafka_reaches_every_client() -> None:
    """The Secret's user and password are files of settings for every pod, and KEDA has them too."""
    for volume in (
        _one("Job", "sluice-setup")["spec"]["template"]["spec"]["volumes"],
        _one("Deployment", "sluice-admin")["spec"]["template"]["spec"]["volumes"],
    ):
        assert "kafka_sasl_username" in str(volume)
        assert "kafka_sasl_password" in str(volume)
    keda = next(one for one in RENDERED if one["metadata"]["name"] == "sluice-kafka")
    keys = {one["parameter"]: one["key"] for one in keda["spec"]["secretTargetRef"]}
    assert keys["username"] == "kafka_sasl_username"
    assert keys["password"] == "kafka_sasl_password"  # noqa: S105 - the name of a key
    (trigger,) = _one("ScaledObject", "sluice-bridge")["spec"]["triggers"]
    assert trigger["metadata"]["sasl"] == "scram_sha512"
    assert trigger["metadata"]["tls"] == "enable"
    assert trigger["authenticationRef"] == {"name": "sluice-kafka"}


def test_grafana_in_the_cluster_shows_what_it_shows_in_compose() -> None:
    """The same dashboards of readings and alerts, and the same source; the password is in no ConfigMap."""
    folder = PROJECT / "compose" / "observability" / "grafana"
    dashboards = _one("ConfigMap", "sluice-grafana-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    wanted = {
        f"sluice-{name}.json": folder / "dashboards" / f"{name}.json" for name in ("readings", "alerts")
    }
    assert {name: json.loads(text) for name, text in dashboards["data"].items()} == {
        name: json.loads(path.read_text()) for name, path in wanted.items()
    }
    source = _one("ConfigMap", "sluice-grafana-source")
    assert source["metadata"]["labels"]["grafana_datasource"] == "1"
    (given,) = yaml.safe_load(source["data"]["sluice.yaml"])["datasources"]
    compose = yaml.safe_load((folder / "provisioning" / "datasources" / "sluice.yaml").read_text())
    (expected,) = [one for one in compose["datasources"] if one["uid"] == "timescaledb"]
    own = {"jsonData": {**expected["jsonData"], "sslmode": "require"}}
    secret = {"secureJsonData": {"password": "$SLUICE_READER_PASSWORD"}}
    assert given == {**expected, **own, **secret}
    assert {panel["datasource"]["uid"] for panel in _panels(dashboards)} == {given["uid"]}


def _panels(dashboards: Document) -> list[Any]:
    return [panel for text in dashboards["data"].values() for panel in json.loads(text)["panels"]]
