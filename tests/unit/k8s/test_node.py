"""What the node of `make k8s-test` is told, and that its stand-ins fit the chart and its scripts."""

import ipaddress
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from compose.local.layout import PROJECT
from tests.docker import images as of_docker
from tests.docker.command import Failed
from tests.k8s import breaks, cluster, config, images, programs

FOLDERS = config.Folders(Path("/srv/node"), Path("/srv/programs"))
SETUP = (PROJECT / "helm-values" / "setup_local.sh").read_text()


def test_the_nodes_networks_do_not_overlap() -> None:
    """An address is a pod's, a Service's, or an end of the wire."""
    pods, services = ipaddress.ip_network(config.PODS), ipaddress.ip_network(config.SERVICES)
    wire = ipaddress.ip_network(f"{config.HERE}/30", strict=False)
    assert not any(one.overlaps(other) for one, other in ((pods, services), (pods, wire), (services, wire)))
    assert ipaddress.ip_address(config.NODE) in wire
    assert ipaddress.ip_address(config.API_SERVICE) == services[1]
    for network in (pods, services, wire):
        assert network.is_private


def test_nothing_of_the_node_is_written_outside_its_folder() -> None:
    """Every path in the settings is in the node's folder, or where its own mounts hide this machine's."""
    texts = [config.containerd(FOLDERS), config.network(), config.kubelet(FOLDERS), config.dns(FOLDERS)]
    texts += [" ".join(arguments) for arguments in config.commands(FOLDERS).values()]
    known = ("/srv/node", "/srv/programs", "/run/", f"/{config.NAME}")
    for text in texts:
        for path in re.findall(r'(?<=[="\s:])/(?!/)[\w./-]+', text):
            assert path.startswith(known), path


def test_the_files_of_settings_are_whole() -> None:
    """JSON and YAML that parse, and one volume for each that is claimed, and some more."""
    (bridge,) = json.loads(config.network())["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": config.PODS}]]
    kubelet = yaml.safe_load(config.kubelet(FOLDERS))
    assert kubelet["clusterDNS"] == [config.NODE]
    named = yaml.safe_load(config.kubeconfig(FOLDERS))
    assert named["current-context"] == named["contexts"][0]["name"]
    made = list(yaml.safe_load_all(config.volumes(Path("/srv/node/volumes"))))
    names = {one["metadata"]["name"] for one in made}
    claimed = sum(text.count("volumeClaimTemplates") for text in _manifests())
    assert len(names) == config.VOLUMES > claimed > 0


def test_setup_local_takes_the_node_for_a_local_cluster() -> None:
    """The name of the context is one that the script goes on with without being asked to."""
    context = yaml.safe_load(config.kubeconfig(FOLDERS))["current-context"]
    assert "kind-*" in SETUP
    assert context.startswith("kind-")


def test_the_parts_of_the_program_are_those_that_are_started() -> None:
    """Each program of the node is made, or comes with containerd."""
    started = set(config.commands(FOLDERS))
    assert started == {*programs.PARTS, "containerd", "coredns", "kube-router"} - {"kubectl"}
    main = (programs.GO / "node" / "main.go").read_text()
    assert all(f'"{part}"' in main for part in programs.PARTS)
    modules = (programs.GO / "go.mod").read_text()
    assert f"k8s.io/kubernetes {programs.VERSION}\n" in modules
    versions = set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (\S+)$", modules, re.MULTILINE))
    assert versions == {programs.VERSION.replace("v1.", "v0.")}


def test_every_image_of_the_chart_and_its_servers_is_in_the_archive() -> None:
    """No pod waits for a registry."""
    pinned = of_docker.pinned()
    there = {images.PROJECT_IMAGE, *(pinned[name] for name in images.SERVERS)}
    wanted = {
        image
        for text in _manifests()
        for image in re.findall(r"^\s*(?:- )?image: ([^\s{]+)$", text, re.MULTILINE)
    }
    assert wanted <= there
    values = yaml.safe_load((PROJECT / cluster.CHART / "values.yaml").read_text())["image"]
    assert f"{values['repository']}:{values['tag']}" == images.PROJECT_IMAGE


def test_helm_takes_stand_ins_for_the_charts_of_others(tmp_path: Path) -> None:
    """`helm repo` does nothing; another project's chart is a folder here; every other word is as it was."""
    real = tmp_path / "helm"
    real.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    real.chmod(0o755)

    def helm(*words: str) -> list[str]:
        done = subprocess.run(
            [str(cluster.HERE / "helm.sh"), *words],
            env={"PATH": "/usr/bin:/bin", "REAL_HELM": str(real), "STANDIN_CHARTS": "/charts"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    assert helm("repo", "add", "valkey", "https://valkey.io/valkey-helm/") == []
    words = ["upgrade", "--install", "valkey", "valkey/valkey", "--set", "a=b c", ""]
    assert helm(*words) == [*words[:3], "/charts/valkey", *words[4:]]
    assert helm("lint", "helm-values/sluice") == ["lint", "helm-values/sluice"]


def test_the_stand_ins_are_those_charts_that_setup_local_installs_without_options() -> None:
    """What only an option of the script installs is named on the page as not proved."""
    plain = re.findall(
        r"^(?:    )?chart (\w+) (\w+/\w+)", SETUP.partition("OBSERVABILITY:-")[0], re.MULTILINE
    )
    assert {source for _, source in plain} == {
        f"{path.name}/{path.name}" for path in cluster.CHARTS.iterdir()
    }
    page = (PROJECT / "docs" / "deploy.md").read_text()
    section = page.partition("### What a run with Kubernetes proves")[2].partition("<!-- k8s-test -->")[0]
    section = " ".join(section.split())
    for name in (
        "Redpanda",
        "EMQX",
        "Valkey",
        "KEDA",
        "Prometheus",
        "Loki",
        "Tempo",
        "Alloy",
        "several nodes",
    ):
        assert name in section, name


@pytest.mark.parametrize(
    ("selector", "labels", "taken"),
    [
        ({}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1", "b": "1"}}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
    ],
)
def test_a_selector_takes_pods_as_kubernetes_does(
    selector: dict[str, object], labels: dict[str, str], taken: bool
) -> None:
    """All of its labels, and all of its expressions."""
    assert cluster.selects(selector, labels) is taken


def test_a_selector_that_is_not_understood_is_no_proof() -> None:
    """It would say that a pod is under a policy which is not."""
    with pytest.raises(Failed, match="unknown operator"):
        cluster.selects({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}, {})


def test_each_process_of_the_chart_is_restarted_under_load() -> None:
    """A new process is in the list by itself, and one that is deleted by force is a process."""
    assert set(breaks.DELETED) <= set(cluster.PROCESSES)
    assert set(breaks.SCALED) <= set(cluster.PROCESSES)
    assert {"gateway", "bridge", "control", "worker", "notify", "beat", "flower"} == set(cluster.PROCESSES)


def _manifests() -> list[str]:
    paths = [*(PROJECT / "helm-values" / "servers").glob("*.yaml"), *cluster.CHARTS.rglob("templates/*.yaml")]
    return [path.read_text() for path in paths]
