"""What the Kubernetes scripts call, seen by stand-ins for kubectl and helm that note how they are called."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from compose.local.layout import PROJECT
from tasks.settings import Settings

STAND_IN = """#!/bin/sh
# In one write, for the two ends of a pipe are called at once.
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
case "$*" in
"config current-context") echo "${CONTEXT:-kind-kind}" ;;
*"--filename -"*) cat >> "$CALLS.applied" ;;
"status keda"*) [ -n "${OWN_KEDA:-}" ] ; exit ;;
status*) exit 1 ;;
"list --namespace keda"*) [ -n "${OWN_KEDA:-}" ] || echo keda ;;
esac
for word in "$@"; do
    case $word in
    --from-file=*=*) file=${word#--from-file=*=}; [ -s "$file" ] || { echo "no $file" >&2; exit 1; } ;;
    --from-file=*) file=${word#--from-file=}; [ -s "$file" ] || { echo "no $file" >&2; exit 1; } ;;
    esac
done
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the scripts need, and the stand-ins."""
    for name in ("compose", "helm-values"):
        shutil.copytree(
            PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("local", "secrets", "__pycache__")
        )
    (tmp_path / "bin").mkdir()
    for name in ("kubectl", "helm"):
        script = tmp_path / "bin" / name
        script.write_text(STAND_IN)
        script.chmod(0o755)
    return tmp_path


def run(project: Path, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of `helm-values` with the stand-ins."""
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(project / "helm-values" / script), *arguments],
        env={"PATH": path, "CALLS": str(project / "calls"), "HOME": str(project), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def calls(project: Path) -> list[str]:
    """What was called, in order."""
    return (project / "calls").read_text().splitlines()


def test_setup_makes_the_secrets_the_servers_and_sluice_in_this_order(project: Path) -> None:
    """Every file of a Secret exists, every key of Sluice's is a setting, and Sluice comes last."""
    done = run(project, "setup_local.sh", KEDA="yes", OBSERVABILITY="yes")
    assert done.returncode == 0, done.stderr
    made = {line.split(" generic ")[1].split()[0]: line for line in calls(project) if " generic " in line}
    assert set(made) == {
        *("timescaledb", "pgbouncer", "emqx", "valkey-users", "redpanda-users", "sluice", "sluice-owner"),
        "sluice-web",
    }
    for name in ("sluice", "sluice-owner", "sluice-web"):
        keys = {word.split("=")[1] for word in made[name].split() if word.startswith("--from-file=")}
        assert keys <= set(Settings.model_fields) | {"redis_password"}, keys
    assert {"redis_url", "database_url", "mqtt_password"} <= {
        word.split("=")[1] for word in made["sluice"].split() if word.startswith("--from-file=")
    }
    installed = [line.split()[3] for line in calls(project) if line.startswith("helm upgrade --install")]
    assert installed[-1] == "sluice"
    assert {"redpanda", "valkey", "keda", "prometheus", "tempo", "loki"} <= set(installed)
    for line in calls(project):
        for word in line.split():
            if word.startswith("helm-values/"):
                assert (project / word).exists(), word


def _applied(project: Path) -> list[Any]:
    """The objects that kubectl read from a pipe."""
    text = (project / "calls.applied").read_text()
    (project / "calls.applied").unlink()
    return [
        one
        for one in yaml.safe_load_all(re.sub(r"^(?=apiVersion:)", "---\n", text, flags=re.MULTILINE))
        if one
    ]


def test_changed_files_replace_the_pods_that_mount_them(project: Path) -> None:
    """No pod notices a new ConfigMap or Secret: the digest in its annotations changes with the files."""
    digests = []
    for _ in range(3):
        assert run(project, "setup_local.sh").returncode == 0
        found = {
            one["metadata"]["name"]: one["spec"]["template"]["metadata"]["annotations"]["checksum/files"]
            for one in _applied(project)
            if one["kind"] in {"StatefulSet", "Deployment"} and one["metadata"]["name"] != "timescaledb"
        }
        digests.append(found)
        if len(digests) == 2:
            pool = project / "compose" / "pgbouncer" / "pgbouncer.ini"
            pool.write_text(f"{pool.read_text()};; changed\n")
    first, same, changed = digests
    assert set(first) == {"pgbouncer", "emqx"}
    assert first == same
    assert changed["emqx"] == first["emqx"]
    assert changed["pgbouncer"] != first["pgbouncer"]
    assert not any("@" in digest for digest in (*first.values(), *changed.values()))


def test_a_login_for_kafka_is_one_word(project: Path) -> None:
    """With KAFKA_SASL=yes both Redpanda and Sluice get the login; without it neither does."""
    for word, login in (("", False), ("yes", True)):
        assert run(project, "setup_local.sh", KAFKA_SASL=word).returncode == 0
        installed = {
            line.split()[3]: line for line in calls(project) if line.startswith("helm upgrade --install")
        }
        assert ("redpanda-sasl.yaml" in installed["redpanda"]) == login
        assert ("settings.KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT" in installed["sluice"]) == login
        (project / "calls").unlink()


def test_a_keda_of_the_clusters_own_is_used_and_left(project: Path) -> None:
    """Teardown does not remove what setup did not install; with `--data` it removes what setup did."""
    assert run(project, "setup_local.sh", KEDA="yes", OWN_KEDA="yes").returncode == 0
    assert not [line for line in calls(project) if "upgrade --install keda" in line]
    assert run(project, "teardown.sh", "--data", OWN_KEDA="yes").returncode == 0
    assert not [line for line in calls(project) if "uninstall keda" in line or "namespace keda --ig" in line]
    assert run(project, "teardown.sh").returncode == 0
    assert not [line for line in calls(project) if "uninstall keda" in line]
    assert run(project, "teardown.sh", "--data").returncode == 0
    assert "helm uninstall keda --namespace keda --wait" in calls(project)


def test_teardown_removes_the_job_that_helm_leaves(project: Path) -> None:
    """A hook's Job belongs to no release: one that failed would stay, with its pod."""
    assert run(project, "teardown.sh").returncode == 0
    wanted = "kubectl --namespace sluice delete jobs --selector app.kubernetes.io/instance=sluice"
    assert [line for line in calls(project) if line.startswith(wanted)]


def test_no_other_namespace_reaches_a_server() -> None:
    """Every server has a policy for what comes in; only KEDA's namespace may ask Kafka and Redis."""
    text = (PROJECT / "helm-values" / "servers" / "network-policy.yaml").read_text()
    policy = yaml.safe_load(text)
    kubernetes_validate.validate(policy, "1.33.0", strict=True)
    (names,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert set(names["values"]) == {"timescaledb", "pgbouncer", "valkey", "redpanda"}
    own, keda = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": {}}]}
    assert {port["port"] for port in keda["ports"]} == {6379, 9093}


def test_loki_as_one_pod_has_no_pods_for_object_storage() -> None:
    """The chart refuses scalable targets without object storage, and Loki retention without a compactor."""
    values = yaml.safe_load((PROJECT / "helm-values" / "charts" / "loki.yaml").read_text())
    assert {name: values[name]["replicas"] for name in ("read", "write", "backend")} == {
        "read": 0, "write": 0, "backend": 0,
    }  # fmt: skip
    assert values["loki"]["limits_config"]["retention_period"]
    assert values["loki"]["compactor"]["retention_enabled"] is True
    assert values["loki"]["compactor"]["delete_request_store"] == values["loki"]["storage"]["type"]


def test_setup_keeps_to_local_clusters(project: Path) -> None:
    """A cluster that is not local is left alone unless it is named."""
    done = run(project, "setup_local.sh", CONTEXT="production")
    assert done.returncode == 1
    assert "production" in done.stderr
    assert len(calls(project)) == len([c for c in calls(project) if c == "kubectl config current-context"])


def test_teardown_keeps_the_data_unless_asked(project: Path) -> None:
    """Without `--data` nothing that holds data or passwords is removed; with it the namespace goes."""
    assert run(project, "teardown.sh").returncode == 0
    removed = [line for line in calls(project) if "delete" in line or "uninstall" in line]
    assert not [
        line for line in removed if "namespace sluice --ignore" in line and "delete namespace" in line
    ]
    assert not [line for line in removed if "persistentvolumeclaim" in line or "secret" in line]
    assert run(project, "teardown.sh", "--data").returncode == 0
    assert "kubectl delete namespace sluice --ignore-not-found" in calls(project)
    assert run(project, "teardown.sh", "--everything").returncode == 2


@pytest.mark.parametrize("name", ["timescaledb", "pgbouncer", "emqx"])
def test_the_servers_are_valid_and_those_of_compose(name: str) -> None:
    """Kubernetes' schemas take them, and image and ports are those of the Compose service."""
    compose = yaml.safe_load((PROJECT / "compose" / "compose.yaml").read_text())["services"][name]
    objects = list(yaml.safe_load_all((PROJECT / "helm-values" / "servers" / f"{name}.yaml").read_text()))
    for one in objects:
        kubernetes_validate.validate(one, "1.33.0", strict=True)
    workload = next(one for one in objects if one["kind"] in {"StatefulSet", "Deployment"})
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert container["image"] == compose["image"]
    served = {port["port"] for one in objects if one["kind"] == "Service" for port in one["spec"]["ports"]}
    assert served == {port["containerPort"] for port in container["ports"]}


def test_values_of_other_charts_are_yaml_and_name_no_password() -> None:
    """Each file parses; passwords come from Secrets."""
    for path in (PROJECT / "helm-values" / "charts").glob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path.name
        assert "assword:" not in path.read_text(), path.name
