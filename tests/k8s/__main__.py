"""`make k8s-test`: makes a Kubernetes node, sets the chart up on it, and proves what is promised of it."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from compose.local.console import ConsoleReport, Report
from compose.local.errors import StackError
from compose.local.layout import PROJECT
from tests import page_table
from tests.docker import daemon, table
from tests.docker.command import Failed, interrupt, need_disk
from tests.k8s import breaks, config, images, isolation, node, pairs, programs
from tests.k8s.cluster import Cluster
from tests.k8s.proofs import Proofs

FOLDER = PROJECT / ".local" / "k8s"
# The images, and the daemon that makes them, are those of `make docker-test`.
DOCKER = PROJECT / ".local" / "docker"
PAGE = PROJECT / "docs" / "deploy.md"
NEEDED_BYTES = 12 * 1024**3
VERSIONS = f"Kubernetes {programs.VERSION} and Debian's containerd"


def main(
    only_node: Annotated[
        bool, typer.Option("--node", help="Start the node, print how to use it, and wait.")
    ] = False,
    without_breaks: Annotated[
        bool, typer.Option("--quick", help="Leave out what restarts, deletes and upgrades.")
    ] = False,
    only: Annotated[str, typer.Option(help="Proofs whose names have one of these words, `WORD,…`.")] = "",
    write: Annotated[bool, typer.Option("--write", help="Put the table into docs/deploy.md.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove programs, images and logs.")] = False,
) -> None:
    """Starts a Kubernetes node on this machine, and sets Sluice up on it with helm-values/setup_local.sh.

    Needs root, 12 GB of disk, 6 GB of memory, a go command, and at the first run half an hour for its
    programs. The node has a network, mounts and processes of its own, which end with this command. Programs,
    images and logs stay in .local/k8s for the next run.
    """
    # A stop cleans up, as a Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    report = ConsoleReport()
    lines = table.Table(report, tuple(filter(None, only.split(","))))
    try:
        if clean:
            daemon.remove(FOLDER)
            return
        _check()
        _run(lines, only_node=only_node, without_breaks=without_breaks)
    except (Failed, StackError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; nothing of the node is left")
    if only_node:
        return
    sys.stdout.write(f"\n{lines.markdown()}\n")
    if write:
        page_table.write(PAGE, "k8s-test", table.dated(lines.markdown(), VERSIONS))
    if not lines.holds:
        sys.exit(1)


def _check() -> None:
    if os.geteuid() != 0:
        raise Failed("only root may make namespaces and run containers: `sudo make k8s-test`")
    need_disk(FOLDER, NEEDED_BYTES)


def _run(lines: table.Table, *, only_node: bool, without_breaks: bool) -> None:
    report = lines.report
    made = programs.make(FOLDER, report)
    checkout = FOLDER / "checkout"
    archive = _archive(checkout, made, report)
    folders = config.Folders(FOLDER / "node", made)
    with node.started(folders, FOLDER / "logs", archive, report) as running:
        cluster = Cluster(running, checkout)
        if only_node:
            report.line(f"export KUBECONFIG={folders.kubeconfig} PATH={made}:$PATH; Ctrl-C ends the node")
            while True:
                signal.pause()
        try:
            _prove(lines, cluster, without_breaks=without_breaks)
        finally:
            if sys.exc_info()[0] or not lines.holds:
                _keep(FOLDER / "logs" / "pods.txt", cluster, report)


def _archive(checkout: Path, made: Path, report: Report) -> Path:
    with daemon.docker(DOCKER, report) as docker:
        return images.make(docker, checkout, DOCKER, FOLDER, made, report)


def _prove(lines: table.Table, cluster: Cluster, *, without_breaks: bool) -> None:
    proofs = Proofs(cluster)
    if not lines.prove("setup_local.sh sets everything up", proofs.setup, needed=True):
        return
    lines.prove("The API server takes every object", proofs.valid)
    lines.prove("rendered.yaml is of this chart", proofs.rendered)
    lines.prove("NetworkPolicies and PodDisruptionBudgets by default", proofs.policies)
    lines.prove("NetworkPolicies let in and out what they say", lambda: isolation.prove(cluster))
    lines.prove("The standard `restricted` for pods", proofs.restricted)
    lines.prove("Non-root and read-only", proofs.enclosure)
    lines.prove("Two gateways with a group", proofs.gateways)
    lines.prove("Two of Flower", proofs.single)
    lines.prove("`sluice status` finds all processes", proofs.status)
    if not lines.prove("Accounts by the operator's commands", proofs.provision, needed=True):
        return
    lines.prove("A reading by MQTT becomes a row", lambda: proofs.row(1))
    lines.prove("A reading by MQTT over TLS becomes a row", lambda: proofs.row_by_tls(2))
    if not without_breaks:
        _break(lines, cluster, proofs)


def _break(lines: table.Table, cluster: Cluster, proofs: Proofs) -> None:
    under_load = breaks.Breaks.begin(cluster, proofs.accounts)
    try:
        for name, work in breaks.replaced(under_load):
            lines.prove(name, work)
        _two(lines, pairs.Pairs(under_load, proofs.accounts[pairs.PERSON]))
        for name, work in breaks.upgraded(under_load):
            lines.prove(name, work)
    finally:
        lines.prove("In the end, every reading is one row", under_load.end, needed=True)
    lines.prove("teardown.sh --data removes everything", under_load.remove_all)


def _two(lines: table.Table, two: pairs.Pairs) -> None:
    wanted = pairs.parts(two)
    if not any(lines.wants(name) for name, _ in wanted):
        return
    begun = lines.prove(
        "`helm upgrade` to two of gateway, control and beat under load", two.begin, needed=True
    )
    for name, work in wanted if begun else ():
        lines.prove(name, work)
    lines.prove("`helm upgrade` to one of each under load", two.end, needed=True)


def _keep(path: Path, cluster: Cluster, report: Report) -> None:
    """What Kubernetes and the pods say, for the search for the reason."""
    with suppress(OSError):
        path.write_text(cluster.diagnosis())
        report.line(f"What the pods say is in {path}, the node's own logs beside it")


if __name__ == "__main__":
    typer.run(main)
