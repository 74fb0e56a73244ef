"""A Kubernetes node in namespaces of its own, so that nothing of it stays: it ends with its first process."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compose.local.console import Report
from tests.docker.command import Failed, run, wait_until
from tests.k8s import config, keys
from tests.k8s.config import HERE, NAME, NODE, PODS, SERVICES

READY_SECONDS = 180
# containerd reads each layer once and writes it once.
IMPORT_SECONDS = 900
_API_READY = ("kubectl", "get", "--raw", "/readyz")
_CONDITION = "{.items[*].status.conditions[?(@.type=='Ready')].status}"
_NODE_READY = ("kubectl", "get", "nodes", f"--output=jsonpath={_CONDITION}")
# The kubelet sets these for the whole machine.
_SYSCTLS = "vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys"
# The first process hides this machine's folders and settings, and adopts what has lost its parent.
_FIRST = f"""
for folder in /run /var/log /var/lib/cni /var/lib/kubelet; do
    if [ -d $folder ]; then mount -t tmpfs tmpfs $folder; fi
done
mkdir /run/settings
for name in {_SYSCTLS} kernel/keys/root_maxbytes; do
    own=/run/settings/$(basename $name)
    cat /proc/sys/$name > $own
    mount --bind $own /proc/sys/$name
done
touch /run/ready
while :; do sleep 3600; done
"""


@dataclass
class Node:
    """The node, while it runs."""

    folders: config.Folders
    first: int
    """The id of its first process, by which its namespaces are entered."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of programs that use the node: kubectl and Helm find it, and are found."""
        return {
            **os.environ,
            "PATH": f"{self.folders.programs}:{os.environ['PATH']}",
            "KUBECONFIG": str(self.folders.kubeconfig),
            "HELM_CACHE_HOME": str(self.folders.node / "helm"),
            "HELM_CONFIG_HOME": str(self.folders.node / "helm"),
            "HELM_DATA_HOME": str(self.folders.node / "helm"),
        }

    def inside(self, *argv: str) -> list[str]:
        """A command line that runs in the node's namespaces."""
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--", *argv]

    def kubectl(self, *arguments: str, seconds: float = 60, stdin: str = "") -> str:
        """What `kubectl ARGUMENTS` prints. Raises `Failed`."""
        return run(["kubectl", *arguments], seconds=seconds, environ=self.environ, stdin=stdin)

    def load_image(self, archive: Path) -> None:
        """Takes the images of an archive, as `docker save` writes it. Raises `Failed`."""
        ctr = ("ctr", f"--address={config.CONTAINERD}", "--namespace=k8s.io", "images", "import")
        run(self.inside(*ctr, str(archive)), seconds=IMPORT_SECONDS)


@contextmanager
def started(folders: config.Folders, logs: Path, archive: Path, report: Report) -> Iterator[Node]:
    """A node that is ready, with the images of the archive; it ends with the block. Raises `Failed`."""
    _clear(folders.node)
    for folder in (logs, folders.node, *(folders.node / name for name in ("cni", "logs", "plugins"))):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(config.VOLUMES):
        volume = folders.node / "volumes" / str(number)
        volume.mkdir(parents=True)
        volume.chmod(0o777)
    keys.make(folders.keys)
    for name, text in (
        ("containerd.toml", config.containerd(folders)),
        ("cni/10-pods.conflist", config.network()),
        ("kubelet.yaml", config.kubelet(folders)),
        ("Corefile", config.dns(folders)),
        ("resolv.conf", ""),
    ):
        (folders.node / name).write_text(text)
    folders.kubeconfig.write_text(config.kubeconfig(folders))
    with ExitStack() as ending:
        # Runs last, when no process of the node is left.
        ending.callback(_clear, folders.node)
        ending.enter_context(_cgroups())
        node = Node(folders, ending.enter_context(_namespaces()))
        ending.enter_context(_wire(node))
        with report.working("Starting the node"):
            _start(node, logs)
        with report.working("Loading the images, 1 to 3 min"):
            node.load_image(archive)
        yield node


def _start(node: Node, logs: Path) -> None:
    children: dict[str, subprocess.Popen[bytes]] = {}

    def ended() -> None:
        for name, child in children.items():
            if child.poll() is not None:
                raise Failed(f"{name} ended with {child.returncode}; see {logs / name}.log")

    def answers(*argv: str, wanted: str = "") -> bool:
        ended()
        with suppress(Failed):
            return wanted in run(argv, seconds=20, environ=node.environ)
        return False

    for name, arguments in config.commands(node.folders).items():
        if name == "kube-router":
            wait_until(lambda: answers(*_NODE_READY, wanted="True"), READY_SECONDS, "the node to be ready")
        program = shutil.which(name, path=node.environ["PATH"])
        if program is None:
            raise Failed(f"there is no program {name}")
        with (logs / f"{name}.log").open("wb") as log:
            children[name] = subprocess.Popen(
                node.inside(program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=node.environ,
                start_new_session=True,
            )
        if name == "kube-apiserver":
            wait_until(lambda: answers(*_API_READY, wanted="ok"), READY_SECONDS, "the API server to be ready")
    node.kubectl("apply", "--filename=-", stdin=config.volumes(node.folders.node / "volumes"))


@contextmanager
def _namespaces() -> Iterator[int]:
    """Namespaces for network, mounts and processes: when their first process ends, so do all others."""
    argv = [
        # Even a kill of this program by the kernel ends the node.
        *("setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--pid", "--fork"),
        *("--kill-child=KILL", "--mount-proc", "sh", "-euc", _FIRST),
    ]
    outer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        wait_until(lambda: outer.poll() is not None or bool(children.read_text()), 10, "the namespaces")
        if outer.poll() is not None:
            raise Failed(f"unshare ended with {outer.returncode}: this machine lets nobody make namespaces")
        first = int(children.read_text())
        wait_until(Path("/proc", str(first), "root", "run", "ready").exists, 10, "the mounts")
        yield first
    finally:
        # The children file is empty when the first process has ended already.
        with suppress(OSError, ValueError):
            os.kill(int(children.read_text()), signal.SIGKILL)
        outer.kill()
        outer.wait()


@contextmanager
def _wire(node: Node) -> Iterator[None]:
    """A wire between this machine and the node's network, while the block runs."""
    made = run(["ip", "-brief", "link"], seconds=10)
    if f"{NAME}@" in made:
        raise Failed(f"there is a network device {NAME}: another node runs, end that one first")
    ip = ("ip", "-batch", "-")
    run(
        [*ip],
        seconds=10,
        stdin=f"link add {NAME} type veth peer name node netns {node.first}\n"
        f"address add {HERE}/30 dev {NAME}\nlink set {NAME} up\n"
        f"route add {PODS} via {NODE}\nroute add {SERVICES} via {NODE}\n",
    )
    run(
        node.inside(*ip),
        seconds=10,
        stdin=f"link set lo up\naddress add {NODE}/30 dev node\nlink set node up\n"
        f"route add {SERVICES} dev node\n",
    )
    run(node.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"), seconds=10)
    try:
        yield
    finally:
        # Without this the kernel would remove it with the node's network, some time after.
        with suppress(Failed):
            run(["ip", "link", "delete", NAME], seconds=20)


@contextmanager
def _cgroups() -> Iterator[None]:
    """One in each hierarchy, below which those of the pods are; without processes they are removed."""
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    made = [Path(where) / NAME for _, where, kind, *_ in mounted if kind in {"cgroup", "cgroup2"}]
    _remove_cgroups(made)
    for path in made:
        path.mkdir()
    try:
        yield
    finally:
        _remove_cgroups(made)


def _remove_cgroups(paths: list[Path]) -> None:
    for path in paths:

        def removed(top: Path = path) -> bool:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            return not top.exists()

        wait_until(removed, 20, f"the cgroups below {path} to be empty")


def _clear(folder: Path) -> None:
    if folder.exists():
        run(["rm", "-rf", "--one-file-system", str(folder)], seconds=300)
