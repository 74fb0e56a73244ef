"""The node's programs: containerd by apt, the others from Go modules by the go command."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from compose.local.console import Report
from tests.docker.command import Failed, run
from tests.docker.daemon import install

GO = Path(__file__).parent / "go"
PARTS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    "kubectl",
)
"""Names by which the program of go/node is called."""
# Kubernetes 1.34 is the last that takes containerd 1.6, which is Debian 12's.
VERSION = "v1.34.4"
MINOR = VERSION.split(".")[1]
_VERSION = "k8s.io/component-base/version"
_PLUGINS = "github.com/containernetworking/plugins/plugins"
ELSEWHERE = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.19.5",
    "coredns": "github.com/coredns/coredns@v1.12.4",
    # Enforces NetworkPolicies, and no more here.
    "kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0",
    "bridge": f"{_PLUGINS}/main/bridge@v1.7.1",
    "host-local": f"{_PLUGINS}/ipam/host-local@v1.7.1",
    "loopback": f"{_PLUGINS}/main/loopback@v1.7.1",
}
"""Programs of other modules."""
LEAST_GO = (1, 24)
BUILD_SECONDS = 3600
_PACKAGES = ("containerd", "runc", "iptables", "ipset", "iproute2")


def make(folder: Path, report: Report) -> Path:
    """The folder of the programs, which are built when they are not there. Raises `Failed`."""
    if not all(map(shutil.which, ("containerd", "ctr", "runc", "iptables", "ipset", "ip"))):
        install(report, *_PACKAGES)
    programs = folder / f"programs-{recipe()}"
    if programs.exists():
        return programs
    go = _go(report)
    for former in folder.glob("programs-*"):
        shutil.rmtree(former)
    part = folder / "programs.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    environ = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(part)}
    version = f"-X {_VERSION}.gitVersion={VERSION} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor={MINOR}"
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    # go writes the sums of the modules beside go.mod.
    shutil.copytree(GO, source)
    for name in ("node", "pause"):
        argv = ["build", "-mod=mod", "-o", str(part / name), f"./{name}"]
        _build(go, name, argv, version, environ, source, report)
    for name, package in ELSEWHERE.items():
        _build(go, name, ["install", package], "", environ, source, report)
    for name in PARTS:
        (part / name).symlink_to("node")
    part.rename(programs)
    return programs


def recipe() -> str:
    """A digest of what the programs are made of."""
    digest = hashlib.sha256()
    for path in sorted(GO.rglob("*.*")):
        digest.update(path.read_bytes())
    digest.update(repr((VERSION, PARTS, sorted(ELSEWHERE.items()))).encode())
    return digest.hexdigest()[:12]


def _build(
    go: str, name: str, argv: list[str], flags: str, environ: Mapping[str, str], source: Path, report: Report
) -> None:
    verb, *rest = argv
    with report.working(f"Building {name}{', 10 to 25 min on two cores' if name == 'node' else ''}"):
        run(
            [go, verb, "-trimpath", "-ldflags", f"-s -w {flags}".strip(), *rest],
            seconds=BUILD_SECONDS,
            environ=environ,
            folder=source,
        )


def _go(report: Report) -> str:
    """The go command, by apt where there is none. Raises `Failed` when it is too old."""
    if not shutil.which("go"):
        install(report, "golang-go")
    go = shutil.which("go")
    if go is None:
        raise Failed("there is no go command, and apt has not installed one")
    told = run([go, "env", "GOVERSION"], seconds=60).strip()
    numbers = tuple(int(word) for word in told.removeprefix("go").split(".")[:2])
    if numbers < LEAST_GO:
        wanted = ".".join(map(str, LEAST_GO))
        raise Failed(
            f"{go} is {told}, and Kubernetes {VERSION} needs {wanted}: put a newer one first on the PATH"
        )
    return go
