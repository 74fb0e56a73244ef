"""A Docker daemon: the one that answers, or one of our own with a folder and a socket of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compose.local.console import Report
from tests.docker.command import Failed, run, wait_until

_PACKAGES = ("docker.io", "iptables")
START_SECONDS = 60
STOP_SECONDS = 40
APT_SECONDS = 600
# Debian 12 has no package of Compose; Debian 13's is one program, which needs nothing else.
_COMPOSE_SUITE = "trixie"
_COMPOSE_PROGRAM = "usr/libexec/docker/cli-plugins/docker-compose"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Its packages start their services; a file of this name and exit code says that they shall not.
_POLICY = Path("/usr/sbin/policy-rc.d")
# A socket's path may have 107 characters, and containerd makes long ones below this folder.
_RUN = Path("/run/sluice-docker")


@dataclass(frozen=True)
class Docker:
    """The client, with the environment in which it finds its daemon."""

    environ: Mapping[str, str]
    own: bool
    """Whether the daemon is ours, so that no image and no container of anybody else's is in it."""

    def __call__(
        self, *arguments: str, seconds: float = 60, stdin: str = "", folder: Path | None = None
    ) -> str:
        """What `docker ARGUMENTS` prints. Raises `Failed`."""
        return run(["docker", *arguments], seconds=seconds, environ=self.environ, stdin=stdin, folder=folder)

    def has(self, image: str) -> bool:
        """Whether there is an image of this name."""
        try:
            self("image", "inspect", image)
        except Failed:
            return False
        return True

    def inspect(self, name: str, template: str) -> str:
        """A field of a container or an image, by a Go template."""
        return self("inspect", "--format", template, name).strip()


@contextmanager
def docker(folder: Path, report: Report) -> Iterator[Docker]:
    """Docker with Compose, as long as the block runs. What it installs stays; what it starts ends."""
    folder.mkdir(parents=True, exist_ok=True)
    environ = dict(os.environ)
    if not shutil.which("docker"):
        install(report, *_PACKAGES)
    if not _answers(environ):
        if not shutil.which("dockerd"):
            install(report, *_PACKAGES)
        environ["DOCKER_HOST"] = f"unix://{folder}/docker.sock"
        environ.pop("DOCKER_CONTEXT", None)
    own = "DOCKER_HOST" in environ and environ["DOCKER_HOST"].startswith(f"unix://{folder}/")
    if not _has_compose(environ):
        environ["DOCKER_CONFIG"] = str(_compose(folder, report))
    if not own:
        report.line("A Docker daemon answers: it is used, and keeps the images that it has")
        yield Docker(environ, own=False)
        return
    with _daemon(folder, environ, report):
        yield Docker(environ, own=True)


def remove(folder: Path) -> None:
    """Removes the folder of a daemon that does not run, with all images."""
    if folder.exists():
        run(["rm", "-rf", "--one-file-system", str(folder)], seconds=300)


def _answers(environ: Mapping[str, str]) -> bool:
    with suppress(Failed):
        run(["docker", "version", "--format", "{{.Server.Version}}"], seconds=20, environ=environ)
        return True
    return False


def _has_compose(environ: Mapping[str, str]) -> bool:
    with suppress(Failed):
        run(["docker", "compose", "version"], seconds=20, environ=environ)
        return True
    return False


@contextmanager
def _daemon(folder: Path, environ: Mapping[str, str], report: Report) -> Iterator[None]:
    log = folder / "dockerd.log"
    argv = [
        *("dockerd", "--data-root", str(folder / "data"), "--exec-root", str(_RUN)),
        *("--pidfile", str(folder / "dockerd.pid"), "--host", environ["DOCKER_HOST"]),
        *("--log-level", "warn", "--live-restore=false"),
    ]
    # A run that was killed leaves a pid file, and the number may be another program's by now.
    _end_former(folder)
    with log.open("ab") as file, report.working("Starting a Docker daemon"):
        child = subprocess.Popen(argv, stdout=file, stderr=file, start_new_session=True)
    try:
        wait_until(
            lambda: child.poll() is not None or _answers(environ), START_SECONDS, f"dockerd; see {log}"
        )
        if child.poll() is not None:
            last = " / ".join(log.read_text(errors="replace").splitlines()[-5:])
            raise Failed(f"dockerd ended with {child.returncode}: {last}")
        yield
    finally:
        with report.working("Stopping the Docker daemon"):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _end_former(folder: Path) -> None:
    pid_file = folder / "dockerd.pid"
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text())
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), STOP_SECONDS, "a former dockerd to end")
    pid_file.unlink(missing_ok=True)


def install(report: Report, *packages: str) -> None:
    """Installs Debian's packages, and starts no service of theirs. Raises `Failed`."""
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise Failed(f"there is no apt-get to install {names} with")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")
    made = not _POLICY.exists()
    with report.working(f"Installing {names} by apt-get"):
        run([*get, "update"], seconds=APT_SECONDS, environ=quiet)
        try:
            if made:
                _POLICY.write_text("#!/bin/sh\nexit 101\n")
                _POLICY.chmod(0o755)
            verb = ("install", "-y", "--no-install-recommends")
            run([*get, *verb, *packages], seconds=APT_SECONDS, environ=quiet)
        finally:
            if made:
                _POLICY.unlink(missing_ok=True)


def _compose(folder: Path, report: Report) -> Path:
    """A folder of client settings with Compose as its plugin."""
    config = folder / "config"
    plugin = config / "cli-plugins" / "docker-compose"
    if plugin.exists():
        return config
    part = folder / "compose.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "lists").mkdir(parents=True)
    (part / "cache").mkdir()
    source = f"deb [signed-by={_KEYRING}] {_mirror()} {_COMPOSE_SUITE} main\n"
    (part / "sources.list").write_text(source)
    get = [
        *(
            "apt-get",
            "-q",
            "-o",
            f"Dir::Etc::sourcelist={part}/sources.list",
            "-o",
            "Dir::Etc::sourceparts=-",
        ),
        *("-o", f"Dir::State::lists={part}/lists", "-o", f"Dir::Cache={part}/cache"),
        *("-o", "APT::Sandbox::User=root"),
    ]
    with report.working("Fetching Compose, a package of Debian 13"):
        run([*get, "update"], seconds=APT_SECONDS, folder=part)
        run([*get, "download", "docker-compose"], seconds=APT_SECONDS, folder=part)
        (package,) = part.glob("docker-compose_*.deb")
        run(["dpkg-deb", "-x", str(package), str(part / "unpacked")], seconds=60)
    plugin.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(part / "unpacked" / _COMPOSE_PROGRAM, plugin.with_suffix(".part"))
    plugin.with_suffix(".part").rename(plugin)
    shutil.rmtree(part)
    return config


def _mirror() -> str:
    """The archive of Debian that this machine's own apt uses. Raises `Failed`."""
    targets = ("indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    found = run(["apt-get", *targets], seconds=60)
    for line in found.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise Failed("apt has no archive of Debian to fetch Compose from; run apt-get update, or install Compose")
