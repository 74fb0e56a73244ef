"""All deployment files say the same as the code: names, ports, topics, queues, settings, secrets."""

import configparser
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import celeryconfig
from compose import generate_secrets
from compose.local.layout import PROJECT
from ingest.admin.servers.roles import ROLES
from tasks.channels.guard import is_refused
from tasks.registry import default
from tasks.settings import Settings
from tests.unit.deployment.documents import (
    CHART,
    COMPOSE,
    DEFAULTS,
    EMQX,
    PROCFILE,
    RENDERED,
    SERVICES,
    VALUES,
    VARIABLES,
    VECTOR,
    Document,
)

# Where the settings are, what the health check of a container asks, and what OpenTelemetry itself reads.
AROUND = {"SLUICE_SECRETS_DIR", "HEALTH_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"}

HEALTH_PORTS = {
    "gateway": DEFAULTS["gateway_metrics_port"],
    "bridge": DEFAULTS["bridge_metrics_port"],
    "control": DEFAULTS["control_metrics_port"],
    "worker": DEFAULTS["metrics_port"],
    "notify": DEFAULTS["notify_metrics_port"],
    "beat": DEFAULTS["beat_metrics_port"],
    "flower": DEFAULTS["flower_port"],
    "web": DEFAULTS["web_metrics_port"],
}


def of_kind(*kinds: str) -> list[Document]:
    """The chart's objects of these kinds."""
    return [one for one in RENDERED if one["kind"] in kinds]


def bare(command: str) -> str:
    """A Procfile command without what a container has otherwise: Flower's address and port."""
    return re.sub(r" --(address|port)=\S+", "", command)


def test_compose_and_the_chart_run_the_processes_of_the_procfile() -> None:
    """Every process of the Procfile is a service and a workload, with the same command."""
    assert set(PROCFILE) <= set(SERVICES)
    assert set(VALUES["processes"]) == set(PROCFILE)
    for name, command in PROCFILE.items():
        assert bare(SERVICES[name]["command"]) == bare(command), name
        assert bare(" ".join(VALUES["processes"][name]["command"])) == bare(command), name


def test_each_process_is_asked_for_its_health_where_it_answers() -> None:
    """Health checks and probes go to the port on which the settings make the process listen."""
    for name, port in HEALTH_PORTS.items():
        path = "healthcheck" if name == "flower" else "healthz"
        assert SERVICES[name]["environment"]["HEALTH_URL"] == f"http://127.0.0.1:{port}/{path}", name
        process = VALUES["processes"][name]
        assert process.get("metricsPort", process.get("httpPort")) == port, name
    for workload in of_kind("Deployment", "StatefulSet"):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        if container["name"] == "admin":
            continue  # it waits for commands and answers nobody
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        api = {"api": DEFAULTS["web_port"]} if container["name"] == "web" else {}
        assert ports == {"http": HEALTH_PORTS[container["name"]], **api}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            assert container[probe]["httpGet"]["port"] == "http"


def test_every_variable_is_a_setting() -> None:
    """A misspelt variable would be ignored without a word; there is none."""
    for name in (*PROCFILE, "setup"):
        assert set(SERVICES[name]["environment"]) <= VARIABLES | AROUND, name
    assert set(VALUES["settings"]) <= VARIABLES | AROUND
    for workload in of_kind("Deployment", "StatefulSet", "Job"):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert {variable["name"] for variable in container["env"]} <= VARIABLES | AROUND


def test_every_variable_has_a_value_that_the_settings_take() -> None:
    """The values of Compose and of the chart are valid, together and with what the secrets add."""
    for values in (SERVICES["worker"]["environment"], VALUES["settings"]):
        chosen: dict[str, Any] = {
            # What Compose takes where `.env` has nothing.
            name.lower(): re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) or None
            for name, value in values.items()
            if name in VARIABLES
        }
        Settings(_env_file=None, **chosen)


def _secret_names(service: Document) -> list[tuple[str, str]]:
    """Source and name in the container of each secret of a service."""
    return [
        (one, one) if isinstance(one, str) else (one["source"], one["target"])
        for one in service.get("secrets", ())
    ]


def test_every_secret_is_made_by_the_one_command_and_used(tmp_path: Path) -> None:
    """Compose's secrets are the files that `generate_secrets` makes; none is missing, none unused."""
    generate_secrets.generate(tmp_path / "secrets")
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    declared = {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    assert declared <= made
    used = {source for service in SERVICES.values() for source, _ in _secret_names(service)}
    assert used == set(COMPOSE["secrets"])
    for name in (*PROCFILE, "setup"):
        for _, target in _secret_names(SERVICES[name]):
            assert target in DEFAULTS or target in {"mqtt_ca.pem", "mqtt_vector_password"}, (name, target)


def test_secrets_are_kept_and_private(tmp_path: Path) -> None:
    """A second call changes no password; nobody else may enter the folder; no placeholder is left."""
    folder = tmp_path / "secrets"
    generate_secrets.generate(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert generate_secrets.generate(folder) == []
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(re.search(r"@[a-z_]+@", text) is None for text in before.values())
    assert len({before[name] for name in generate_secrets.PASSWORDS}) == len(generate_secrets.PASSWORDS)
    subprocess.run(
        ["openssl", "verify", "-CAfile", folder / "mqtt_ca.pem", folder / "mqtt_server.pem"],
        check=True,
        capture_output=True,
    )


def test_the_settings_of_compose_come_from_the_files_of_secrets(tmp_path: Path) -> None:
    """In a folder as a container has it, the settings hold the generated addresses and passwords."""
    generate_secrets.generate(tmp_path / "secrets")
    inside = tmp_path / "inside"
    inside.mkdir()
    for source, target in _secret_names(SERVICES["worker"]):
        (inside / target).write_text((tmp_path / "secrets" / source).read_text())
    program = "from tasks.settings import settings; s = settings(); print(s.redis_url.get_secret_value())"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(s.mqtt_password.get_secret_value())"],
        env={"PATH": os.environ["PATH"], "SLUICE_SECRETS_DIR": str(inside), "SLUICE_ENV_FILE": os.devnull},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [(inside / name).read_text() for name in ("redis_url", "mqtt_password")]


def test_no_password_is_in_any_file() -> None:
    """Compose, the chart, Vector and EMQX name files or placeholders; nothing has a default password."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert str(value).startswith("/run/secrets"), name
    assert VECTOR["sources"]["emqx"]["password"].startswith("SECRET[files.mqtt_vector_password")
    for name, value in VALUES["settings"].items():
        assert "PASSWORD" not in name, name
        assert "@" not in str(value), name


def _published() -> Iterator[str]:
    for service in SERVICES.values():
        yield from service.get("ports", ())


def test_published_ports_are_on_loopback_and_not_the_bridges() -> None:
    """No other machine reaches anything; our own processes' listener is not even published here."""
    ports = list(_published())
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)
    assert not any(port.endswith(":1884") for port in ports)


def test_every_service_is_bounded_and_comes_back() -> None:
    """A limit of memory, a restart policy, rotated logs and a pinned image for each."""
    for name, service in SERVICES.items():
        assert service.get("mem_limit"), name
        assert service["restart"] in {"unless-stopped", "on-failure:5"}, name
        assert service["logging"]["options"]["max-size"], name
        tag = service["image"].rpartition(":")[2]
        assert tag == "local" or re.search(r"\d+\.\d+", tag), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith((".", "/")):
                assert source in COMPOSE["volumes"], (name, source)


def test_mounted_files_exist() -> None:
    """Files mounted from the project exist; the observability files are mounted where they are made."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                path = (PROJECT / "compose" / source).resolve()
                assert path.exists() or "observability" in path.parts, (name, source)


def test_compose_follows_the_schema() -> None:
    """The Compose specification's own schema takes the file."""
    subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(PROJECT / "compose" / "compose.yaml"),
        ],
        check=True,
        capture_output=True,
    )


def test_servers_are_where_the_settings_look_for_them() -> None:
    """Kafka, EMQX and the database are found under the names and ports of Compose's services."""
    environment = SERVICES["worker"]["environment"]
    host, port = environment["KAFKA_BOOTSTRAP_SERVERS"].split(":")
    assert f"--advertise-kafka-addr=internal://{host}:{port}" in " ".join(SERVICES[host]["command"])
    assert environment["MQTT_HOST"] in SERVICES
    word = {name: name for name in generate_secrets.PASSWORDS}.__getitem__
    for name in (
        *("database_url", "database_direct_url", "redis_url", "owner_database_url", "web_database_url"),
    ):
        url = generate_secrets.DERIVED[name](word)
        found = re.fullmatch(r"\w+://(\w+):\w+@(\w+):(\d+)/\w+", url)
        assert found is not None, url
        assert found[2] in SERVICES, url
    pool = configparser.ConfigParser()
    pool.read_string((PROJECT / "compose" / "pgbouncer" / "pgbouncer.ini").read_text())
    assert pool["pgbouncer"]["pool_mode"] == "transaction"
    assert pool["pgbouncer"]["listen_port"] == "6432"
    assert pool["databases"]["sluice"].startswith("host=timescaledb port=5432")
    roles = (PROJECT / "compose" / "timescaledb" / "010_roles.sh").read_text()
    assert all(f"role {name} " in roles for name in ROLES)


def test_vector_uses_the_topics_and_the_servers_of_the_rest() -> None:
    """Its topics, its MQTT filter and its servers are those of the code and of Compose."""
    source = VECTOR["sources"]["emqx"]
    assert source["topic"] == default().filter
    assert source["host"] in SERVICES
    assert source["port"] == int(SERVICES["worker"]["environment"]["MQTT_PORT"])
    assert f"sluice provision service {source['user']} " in SERVICES["setup"]["command"][0]
    sinks = [sink for sink in VECTOR["sinks"].values() if sink["type"] == "kafka"]
    assert [sink["topic"] for sink in sinks] == [DEFAULTS["kafka_topic"], DEFAULTS["kafka_dlq_topic"]]
    assert {sink["bootstrap_servers"] for sink in sinks} == {
        SERVICES["worker"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
    }
    largest = 1024 * 1024
    assert EMQX["mqtt"]["max_packet_size"] == "1MB"
    assert largest < source["max_packet_size"] < DEFAULTS["kafka_max_message_bytes"]


def test_the_rendered_chart_is_the_charts() -> None:
    """`helm-values/render.sh` was run after the last change of the chart."""
    files = sorted(path for path in CHART.rglob("*") if path.is_file())
    order = sorted(files, key=lambda path: os.fsencode(path.relative_to(CHART.parent)))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in order)).hexdigest()[:32]
    first = (PROJECT / "helm-values" / "rendered.yaml").read_text().splitlines()[0]
    assert first.endswith(digest)


@pytest.mark.parametrize(
    "one",
    [o for o in RENDERED if "." not in o["apiVersion"] or ".k8s.io" in o["apiVersion"]],
    ids=lambda one: f"{one['kind']}-{one['metadata']['name']}",
)
def test_kubernetes_takes_the_charts_objects(one: Document) -> None:
    """The schemas of Kubernetes take every object of Kubernetes' own kinds, with no unknown field."""
    kubernetes_validate.validate(one, "1.33.0", strict=True)


def test_the_chart_scales_by_the_group_the_topic_and_the_queues_of_the_code() -> None:
    """KEDA looks at the bridge's group, the telemetry's topic and Celery's queues."""
    scaled = {one["metadata"]["name"]: one["spec"] for one in of_kind("ScaledObject")}
    bridge = scaled["sluice-bridge"]["triggers"][0]["metadata"]
    assert (bridge["consumerGroup"], bridge["topic"]) == (DEFAULTS["kafka_group"], DEFAULTS["kafka_topic"])
    assert scaled["sluice-bridge"]["maxReplicaCount"] <= int(VALUES["settings"]["KAFKA_PARTITIONS"])
    queues = {trigger["metadata"]["listName"] for trigger in scaled["sluice-worker"]["triggers"]}
    routed = {route["queue"] for route in celeryconfig.task_routes.values()}
    # The workers of `notify` mostly wait for others, and one is enough.
    assert queues == (routed | {celeryconfig.task_default_queue}) - {"notify"}
    assert all(
        isinstance(value, str)
        for spec in scaled.values()
        for trigger in spec["triggers"]
        for value in trigger["metadata"].values()
    )


def test_workloads_are_locked_down_and_given_time() -> None:
    """No root, no new privileges, a read-only root, and more time to stop than the settings take."""
    for workload in of_kind("Deployment", "StatefulSet", "Job"):
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        if workload["kind"] != "Job" and container["name"] != "admin":
            assert pod["terminationGracePeriodSeconds"] > DEFAULTS["stop_grace_seconds"]
            assert pod["terminationGracePeriodSeconds"] > DEFAULTS["celery_soft_shutdown_seconds"]
    protected = {one["metadata"]["name"] for one in of_kind("PodDisruptionBudget")}
    assert protected == {f"sluice-{name}" for name in PROCFILE} - {"sluice-flower"}


def test_the_network_policy_lets_through_what_the_settings_need() -> None:
    """Egress covers the ports of the settings and of metrics; ingress only those of metrics and of Flower."""
    policy, outside = of_kind("NetworkPolicy")
    allowed = {rule["port"] for egress in policy["spec"]["egress"] for rule in egress["ports"]}
    for value in VALUES["settings"].values():
        if found := re.search(r":(\d+)$", str(value)):
            assert int(found[1]) in allowed, value
    assert int(VALUES["settings"]["MQTT_PORT"]) in allowed
    assert set(HEALTH_PORTS.values()) <= allowed
    # Nothing but the worker of the channels reaches other networks, and it only public ones.
    assert outside["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "notify"
    (block,) = outside["spec"]["egress"][0]["to"]
    assert all(is_refused(network.partition("/")[0]) for network in block["ipBlock"]["except"])
    (ingress,) = policy["spec"]["ingress"]
    assert {rule["port"] for rule in ingress["ports"]} == set(HEALTH_PORTS.values())


def test_the_image_is_small_unprivileged_and_has_what_runs() -> None:
    """Two stages, no root, a pinned base, and every folder that the code reads at run time."""
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    user = next(line.split()[1] for line in reversed(lines) if line.startswith("USER "))
    assert user == "10001:10001"
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {
        "ingest",
        "tasks",
        "sql",
        "celeryconfig.py",
        "flowerconfig.py",
        "pyproject.toml",
        "constraints.txt",
    }
    assert needed | {"compose/__init__.py", "compose/healthcheck.py", "README.md", "LICENSE"} <= kept
    assert all((PROJECT / name).exists() for name in kept)
