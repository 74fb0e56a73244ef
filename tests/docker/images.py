"""Images from Debian's packages, under the names that the Dockerfile and compose.yaml pin.

An image that a daemon of somebody else's has already under such a name is the original, and stays.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from compose.local import root_filesystem
from compose.local.console import Report
from compose.local.layout import PROJECT
from tests.docker.command import Failed, run
from tests.docker.daemon import Docker

STANDINS = Path(__file__).parent / "standins"
COMPOSE = PROJECT / "compose" / "compose.yaml"
SERVERS = ("timescaledb", "redis", "pgbouncer", "redpanda", "emqx", "prometheus")
"""Services that run here; of each there is a target in the stand-ins' Dockerfile."""
ABSENT = ("console", "alertmanager", "grafana", "tempo", "loki", "alloy", "otel-collector", "vector")
"""Services of compose.yaml of which there is no stand-in."""

_LABEL = "sluice.stand-in"
_PYTHON_SUITE = "bookworm"
_PYTHON_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,passwd"
# The packages' documentation, and programs of the tests that no server here needs.
_LEFT_OUT = (
    *("usr/lib/chromium", "usr/lib/erlang", "usr/lib/rabbitmq", "usr/lib/x86_64-linux-gnu/dri"),
    *("usr/share/doc", "usr/share/man", "usr/share/icons", "usr/share/fonts", "usr/share/locale"),
    *(
        "usr/share/javascript",
        "usr/share/nodejs",
        "usr/share/gtk-3.0",
        "usr/share/i18n",
        "var/lib/postgresql",
    ),
)
_LEFT_OUT_FILES = ("./dev/*", "./proc/*", "./sys/*", "./usr/lib/*/libLLVM*")
BUILD_SECONDS = 1500


def pinned() -> dict[str, str]:
    """The images of compose.yaml, by service."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    return {name: service["image"] for name, service in services.items()}


def python_image() -> str:
    """The image that the project's Dockerfile starts from."""
    found = re.search(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def make(docker: Docker, folder: Path, report: Report) -> dict[str, bool]:
    """Makes what is missing. Returns for each server's service whether its image is a stand-in."""
    root_filesystem.ensure(report)
    _python(docker, report)
    recipe = hashlib.sha256()
    for path in sorted(path for path in STANDINS.iterdir() if path.is_file()):
        recipe.update(path.read_bytes())
    conf = PROJECT / "compose" / "local" / "conf"
    for path in (conf / "server.properties", conf / "log4j2.properties"):
        recipe.update(path.read_bytes())
    recipe.update(" ".join((root_filesystem.root().name, root_filesystem.jars().name)).encode())
    recipe.update(root_filesystem.plugins().name.encode())
    made = recipe.hexdigest()[:12]
    names = pinned()
    wanted = [name for name in SERVERS if _standin(docker, names[name]) not in {made, None}]
    if wanted:
        root = _root(docker, report)
        context = _context(folder)
        for name in wanted:
            with report.working(f"Making a stand-in for {names[name]}"):
                docker(
                    *("build", "--target", name, "--tag", names[name], "--label", f"{_LABEL}={made}"),
                    *("--build-arg", f"ROOT={root}", str(context)),
                    seconds=BUILD_SECONDS,
                )
        shutil.rmtree(context)
    return {name: _standin(docker, names[name]) is not None for name in SERVERS}


def _standin(docker: Docker, image: str) -> str | None:
    """The recipe by which the image was made here; "" when there is none; None for an original."""
    try:
        label = docker.inspect(image, f'{{{{index .Config.Labels "{_LABEL}"}}}}')
    except Failed:
        return ""
    return label or None


def _root(docker: Docker, report: Report) -> str:
    left_out = hashlib.sha256(" ".join((*_LEFT_OUT, *_LEFT_OUT_FILES)).encode()).hexdigest()[:6]
    image = f"sluice-{root_filesystem.root().name}:{left_out}"
    if not docker.has(image):
        excluded = [f"--exclude=./{path}/*" for path in _LEFT_OUT]
        excluded += [f"--exclude={path}" for path in _LEFT_OUT_FILES]
        argv = ["tar", "-C", str(root_filesystem.root()), "--one-file-system", *excluded, "-c", "."]
        with report.working("Making an image of the servers' root file system, 1 to 3 min"):
            _import(docker, argv, image)
    return image


def _python(docker: Docker, report: Report) -> None:
    image = python_image()
    if docker.has(image):
        return
    hooks = [
        'ln -sf python3 "$1/usr/bin/python"',
        # What this machine trusts, and where its pip looks: neither is in the Dockerfile.
        f'cp {_bundle()} "$1/etc/ssl/certs/ca-certificates.crt"',
        *(f"echo '{line}' >> \"$1/etc/pip.conf\"" for line in _pip_settings(os.environ)),
    ]
    argv = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PYTHON_PACKAGES}"),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(_PYTHON_SUITE, "-"),
    ]
    with report.working(f"Making a stand-in for {image}, 1 to 3 min"):
        _import(docker, argv, image)


def _bundle() -> str:
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        if (path := os.environ.get(name)) and Path(path).is_file():
            return path
    return "/etc/ssl/certs/ca-certificates.crt"


def _pip_settings(environ: "os._Environ[str] | dict[str, str]") -> list[str]:
    """Lines of a pip.conf with the settings of this machine's pip; none where it has none."""
    names = {"PIP_INDEX_URL": "index-url", "PIP_EXTRA_INDEX_URL": "extra-index-url", "PIP_PROXY": "proxy"}
    found = [f"{option} = {environ[name]}" for name, option in names.items() if environ.get(name)]
    return ["[global]", *found] if found else []


def _import(docker: Docker, argv: list[str], image: str) -> None:
    """Makes an image of the tar file that a command writes."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as tar:
        try:
            done = subprocess.run(
                ["docker", "import", "-", image],
                stdin=tar.stdout,
                capture_output=True,
                text=True,
                env=docker.environ,
                timeout=BUILD_SECONDS,
                check=False,
            )
        except BaseException:
            tar.kill()
            raise
        told = tar.stderr.read().decode(errors="replace") if tar.stderr else ""
    if tar.returncode or done.returncode:
        if not done.returncode:
            docker("rmi", image)
        raise Failed(f"could not make {image}: {told[-500:]} {done.stderr[-300:]}")


def _context(folder: Path) -> Path:
    """A folder with what the stand-ins' Dockerfile copies."""
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(STANDINS, context, ignore=shutil.ignore_patterns("__pycache__"))
    conf = PROJECT / "compose" / "local" / "conf"
    for name in ("server.properties", "log4j2.properties"):
        shutil.copy(conf / name, context)
    shutil.copy(root_filesystem.plugins() / "sessions.so", context)
    run(["cp", "-a", "--link", str(root_filesystem.jars()), str(context / "jars")], seconds=60)
    return context
