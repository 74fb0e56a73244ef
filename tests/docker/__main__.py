"""`make docker-test`: starts compose.yaml itself with Docker, and proves what is promised of it."""

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

from compose.local.console import ConsoleReport, Report
from compose.local.errors import StackError
from compose.local.layout import PROJECT
from tests import page_table
from tests.docker import breaks, daemon, images, table
from tests.docker.command import Failed, interrupt, need_disk
from tests.docker.project import NAME, Project
from tests.docker.proofs import PERSON, Proofs

FOLDER = PROJECT / ".local" / "docker"
PAGE = PROJECT / "docs" / "deploy.md"
NEEDED_BYTES = 5 * 1024**3


def main(
    only_images: Annotated[bool, typer.Option("--images", help="Make the images, and no more.")] = False,
    without_breaks: Annotated[
        bool, typer.Option("--quick", help="Leave out what kills and restarts.")
    ] = False,
    only: Annotated[str, typer.Option(help="Proofs whose names have one of these words, `WORD,…`.")] = "",
    write: Annotated[bool, typer.Option("--write", help="Put the table into docs/deploy.md.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the daemon's folder with all images.")
    ] = False,
) -> None:
    """Starts the Compose stack from a copy of this checkout, on servers made from Debian's packages.

    Needs root, 5 GB of disk and 5 GB of memory, and half an hour. Without a Docker daemon it installs
    docker.io and starts one with a folder and a socket of its own, and stops it. It removes its containers,
    networks and volumes in any case; its own daemon's images stay in .local/docker for the next run.
    """
    # A stop cleans up, as a Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    report = ConsoleReport()
    try:
        if clean:
            daemon.remove(FOLDER)
            return
        _check()
        lines = table.Table(report, tuple(filter(None, only.split(","))))
        _run(lines, only_images=only_images, without_breaks=without_breaks)
    except (Failed, StackError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; containers, networks and volumes are removed")
    if only_images:
        return
    sys.stdout.write(f"\n{lines.markdown()}\n")
    if write:
        page_table.write(PAGE, "docker-test", table.dated(lines.markdown(), "Debian's docker.io and Compose"))
    if not lines.holds:
        sys.exit(1)


def _check() -> None:
    if os.geteuid() != 0:
        raise Failed("only root may start a Docker daemon and kill what runs in it: `sudo make docker-test`")
    need_disk(FOLDER, NEEDED_BYTES)


def _run(lines: table.Table, *, only_images: bool, without_breaks: bool) -> None:
    report = lines.report
    with daemon.docker(FOLDER, report) as docker:
        images.make(docker, FOLDER, report)
        project = Project.copy(docker, FOLDER / "checkout")
        try:
            project.make_secrets()
            with report.working("Building the image of the project, 1 to 5 min"):
                project.compose("build", "setup", seconds=images.BUILD_SECONDS)
            if not only_images:
                _prove(lines, project, without_breaks=without_breaks)
        finally:
            if not only_images and (sys.exc_info()[0] or not lines.holds):
                _keep_logs(project, report)
            with report.working("Removing containers, networks and volumes"):
                project.remove()


def _prove(lines: table.Table, project: Project, *, without_breaks: bool) -> None:
    proofs = Proofs(project)
    if not lines.prove("Two commands set the stack up", proofs.setup, needed=True):
        return
    lines.prove("All is healthy", proofs.health)
    lines.prove("Non-root and read-only", proofs.enclosure)
    lines.prove("Secrets' modes", proofs.secrets)
    if not lines.prove("Accounts by the operator's commands", proofs.provision, needed=True):
        return
    lines.prove("A reading by MQTT becomes a row", lambda: proofs.row(1, tls=False))
    lines.prove("A reading by MQTT over TLS becomes a row", lambda: proofs.row(2, tls=True))
    lines.prove("By way of PgBouncer", proofs.pool)
    lines.prove("A rule and its alert by MQTT", proofs.alert)
    lines.prove("A dead letter, replayed by `celery call`", proofs.dead_letter)
    lines.prove("A stretch of Kafka, replayed by `celery call`", proofs.replay)
    lines.prove("Flower's login", proofs.flower)
    lines.prove("Prometheus reads all processes", proofs.prometheus)
    if not without_breaks:
        _break(lines, project, proofs)


def _break(lines: table.Table, project: Project, proofs: Proofs) -> None:
    under_load = breaks.Breaks.begin(project, proofs.accounts)
    try:
        for name, work in breaks.kills(under_load):
            if not lines.prove(name, work):
                # An unhealthy service would fail the next proofs as well.
                with suppress(Failed):
                    project.up_all()
        lines.prove(
            "Two of gateway, control and beat, those that act killed under load",
            lambda: under_load.two_of_each(proofs.accounts[PERSON], PERSON),
        )
        lines.prove("`stop` and `up` under load", under_load.stop_up)
        lines.prove("`down` and `up` under load keep rows", under_load.down_up)
        lines.prove("A new image under load", under_load.new_image)
        lines.prove(
            "New certificates of the broker under load",
            lambda: under_load.new_certificates(proofs.accounts["fridge"]),
        )
    finally:
        lines.prove("In the end, every reading is one row", under_load.end, needed=True)
    lines.prove("Other passwords than an old volume's", under_load.new_secrets)
    lines.prove("New passwords, by the steps of this page", under_load.renewed_secrets)


def _keep_logs(project: Project, report: Report) -> None:
    """The containers' logs, for the search for the reason."""
    path = FOLDER / "containers.log"
    with suppress(Failed):
        path.write_text(project.compose("--profile", "*", "logs", "--no-color", "--timestamps", seconds=60))
        report.line(f"The containers' logs are in {path} ({NAME})")


if __name__ == "__main__":
    typer.run(main)
