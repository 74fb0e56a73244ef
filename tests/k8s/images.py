"""One archive of all images: the project's own in two versions, the servers' stand-ins, a pod's sandbox."""

import shutil
from pathlib import Path

from compose.local.console import Report
from tests.docker import images as of_docker
from tests.docker.daemon import Docker
from tests.docker.project import Project
from tests.k8s import config

SERVERS = ("timescaledb", "redis", "pgbouncer", "redpanda", "emqx")
PROJECT_IMAGE, NEXT_IMAGE = "sluice:local", "sluice:next"
TABLE = "of_the_next_version"
"""What the second version's migration makes."""
MIGRATION = f"-- A table of a later version.\nCREATE TABLE {TABLE} (id int PRIMARY KEY);\n"
SAVE_SECONDS = 600


def make(docker: Docker, checkout: Path, servers: Path, folder: Path, programs: Path, report: Report) -> Path:
    """The archive, which is written when an image is another than before. Raises `Failed`."""
    of_docker.make(docker, servers, report)
    project = Project.copy(docker, checkout)
    with report.working("Building the image of the project, 1 to 5 min"):
        _build(project, PROJECT_IMAGE)
    migration = checkout / "sql" / _next_migration(checkout / "sql")
    migration.write_text(MIGRATION)
    try:
        with report.working("Building the image of a later version"):
            _build(project, NEXT_IMAGE)
    finally:
        migration.unlink()
    _pause(docker, folder, programs)
    pinned = of_docker.pinned()
    names = [PROJECT_IMAGE, NEXT_IMAGE, config.PAUSE, *(pinned[name] for name in SERVERS)]
    ids = "\n".join(docker.inspect(name, "{{.Id}}") for name in names)
    archive, saved = folder / "images.tar", folder / "images.txt"
    if not archive.exists() or not saved.exists() or saved.read_text() != ids:
        with report.working("Saving the images"):
            saved.unlink(missing_ok=True)
            docker("save", "--output", str(archive), *names, seconds=SAVE_SECONDS)
            saved.write_text(ids)
    return archive


def _build(project: Project, image: str) -> None:
    project.docker("build", "--tag", image, str(project.folder), seconds=of_docker.BUILD_SECONDS)


def _next_migration(folder: Path) -> str:
    """The file name after the last numbered one."""
    last = max(int(path.name[:4]) for path in folder.glob("[0-9]*.sql") if ".always." not in path.name)
    return f"{last + 1:04d}_{TABLE}.sql"


def _pause(docker: Docker, folder: Path, programs: Path) -> None:
    context = folder / "pause"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    shutil.copy2(programs / "pause", context)
    (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    docker("build", "--tag", config.PAUSE, str(context), seconds=120)
    shutil.rmtree(context)
