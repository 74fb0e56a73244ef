"""The ground the servers stand on: a small Debian root file system and Kafka's jars, each made once."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType

from compose.local import user_cache
from compose.local.console import Report, Say
from compose.local.errors import StackError
from compose.local.layout import GROUND, PROJECT

_SUITE = "trixie"
_PACKAGES = (
    "postgresql-17",
    "postgresql-17-timescaledb",
    "redis-server",
    "mosquitto",
    "mosquitto-clients",
    "pgbouncer",
    "openjdk-21-jre-headless",
    # The tests': what scrapes, checks and tells alerts, the browser that looks at Flower, the other broker.
    "prometheus",
    "prometheus-alertmanager",
    "chromium",
    "chromium-driver",
    "rabbitmq-server",
)
_POM = PROJECT / "compose" / "local" / "conf" / "pom.xml"
_PLUGIN = PROJECT / "compose" / "local" / "conf" / "mosquitto_sessions.c"
# Any does; the last is the smallest that there is.
_COMPILERS = ("cc", "gcc", "clang", "tcc")
# What the tools print for each thing that they have done.
_APT = {"fetched": r"^Get:", "unpacked": r"^Unpacking ", "set up": r"^Setting up "}
_MAVEN = {"fetched": r"Downloaded from "}
_SAY_SECONDS = 0.5
_FIRST_TIME_BYTES = 4 * 1024**3


def root() -> Path:
    """The root file system. Its name holds a digest of the recipe, so another recipe is another folder."""
    recipe = hashlib.sha256(" ".join((_SUITE, *_PACKAGES, os.uname().machine)).encode()).hexdigest()
    return GROUND / f"root-{recipe[:12]}"


def jars() -> Path:
    """The folder of Kafka's jars, named like `root`."""
    return GROUND / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"


def plugins() -> Path:
    """The folder of Mosquitto's plugin, named like `root`."""
    recipe = _PLUGIN.read_bytes() + os.uname().machine.encode()
    return GROUND / f"mosquitto-{hashlib.sha256(recipe).hexdigest()[:12]}"


@cache
def server_user() -> tuple[int, int]:
    """User and group id of `postgres` inside the root file system: what every server runs as."""
    for line in (root() / "etc" / "passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == "postgres":
            return int(fields[2]), int(fields[3])
    raise StackError(f"{root()} has no user postgres; remove that folder, and the next start makes it again")


def ensure(report: Report) -> None:
    """Makes what is missing; does nothing, in no time, when all is there.

    What exists under its final name is complete: it is made under another name and renamed last.
    Raises `StackError` if it cannot be made, with the failing tool's last words.
    """
    GROUND.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(report):
        _take_from_cache(report)
        missing = [path for path in (root(), jars(), plugins()) if not path.exists()]
        if root() in missing or jars() in missing:
            available = shutil.disk_usage(GROUND).free
            if available < _FIRST_TIME_BYTES:
                raise StackError(
                    f"the first start needs 4 GB of disk space for {GROUND},"
                    f" and {available / 1024**3:.1f} GB are free"
                )
        _host_packages(report)
        if root() in missing:
            _make_root(report)
        if jars() in missing:
            _make_jars(report)
        if plugins() in missing:
            _make_plugins()
        if root() in missing:
            with report.working("Keeping it for other checkouts of this user"):
                user_cache.keep(root(), _as_root())
        if jars() in missing:
            user_cache.keep(jars())
    _try_enclosure()


def remove(report: Report) -> None:
    """Removes the root file system and the jars, also from the cache."""
    if user_cache.exists():
        with report.working("Removing the cache of this user"):
            user_cache.remove(_as_root())
    if not GROUND.exists():
        return
    with report.working(f"Removing {GROUND}"):
        _run([*_as_root(), "rm", "-rf", "--one-file-system", str(GROUND)], "remove the root file system")


def remove_tree(path: Path) -> None:
    """Removes a folder of this user's, if it exists."""
    if path.exists():
        shutil.rmtree(path)


def _take_from_cache(report: Report) -> None:
    for path in (root(), jars()):
        if not path.exists() and user_cache.exists():
            with report.working(f"Looking for {path.name} in the cache of this user"):
                taken = user_cache.take(path, _as_root() if path == root() else ())
            if taken:
                report.line(f"Taken from the cache: {path.name}")


def _make_root(report: Report) -> None:
    final = root()
    part = final.with_name(f"{final.name}.part")
    argv = ["mmdebstrap", "--verbose", "--variant=apt", f"--include={','.join(_PACKAGES)}", _SUITE, str(part)]
    report.line("The servers live in a small Debian root file system of their own, made once")
    with report.working(
        "Making it (PostgreSQL, TimescaleDB, Redis, Mosquitto, Java, …), usually 1 to 3 min"
    ) as say:
        _run(
            [*_as_root(), "rm", "-rf", "--one-file-system", str(part)], "remove a half-made root file system"
        )
        _run([*_as_root(), *argv], "make the root file system", _APT, say)
    part.rename(final)
    report.line("Root file system made")


def _make_jars(report: Report) -> None:
    final = jars()
    part = final.with_name(f"{final.name}.part")
    remove_tree(part)
    with report.working("Fetching Apache Kafka by Maven, usually 10 s to 1 min") as say:
        _run(
            [
                *("mvn", "-B", "-f", str(_POM), "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={part}", "-DincludeScope=runtime"),
            ],
            "fetch Kafka's jars",
            _MAVEN,
            say,
        )
    if not list(part.glob("kafka_2.13-*.jar")):
        raise StackError(f"Maven did not put a Kafka broker into {part}")
    part.rename(final)
    report.line("Kafka fetched")


def _make_plugins() -> None:
    final = plugins()
    part = final.with_name(f"{final.name}.part")
    remove_tree(part)
    part.mkdir()
    compiler = next(name for name in _COMPILERS if shutil.which(name))
    _run(
        [compiler, "-shared", "-fPIC", "-nostdlib", "-o", str(part / "sessions.so"), str(_PLUGIN)],
        "compile Mosquitto's plugin",
    )
    part.rename(final)


def _host_packages(report: Report) -> None:
    """Installs the programs of the host that the next steps call."""
    needed = {"bwrap": "bubblewrap", "setpriv": "util-linux"}
    if not root().exists():
        needed["mmdebstrap"] = "mmdebstrap"
    if not jars().exists():
        needed["mvn"] = "maven"
    if not plugins().exists() and not any(shutil.which(name) for name in _COMPILERS):
        needed["tcc"] = "tcc"
    packages = sorted(package for program, package in needed.items() if not shutil.which(program))
    if not root().exists() and not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        packages.append("debian-archive-keyring")
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise StackError(
            f"the local stack needs {', '.join(packages)} on the host, and there is no apt-get to install it"
        )
    report.line(f"Installing {', '.join(packages)}, to fetch and run the servers")
    with report.working("apt-get, usually 10 s to 1 min") as say:
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
        _run([*_as_root(), *quiet, "update"], "update apt-get's lists")
        install = ["install", "-y", "--no-install-recommends", *packages]
        _run([*_as_root(), *quiet, *install], "install host packages", _APT, say)


def _as_root() -> list[str]:
    if os.getuid() == 0:
        return []
    if not shutil.which("sudo"):
        raise StackError("making the root file system needs root: become root, or install sudo")
    return ["sudo"]


def _try_enclosure() -> None:
    user, group = server_user()
    argv = ["bwrap", "--ro-bind", str(root()), "/", "--dev", "/dev", "--bind", "/proc", "/proc"]
    argv += ["--tmpfs", "/srv", "--unshare-user", "--uid", str(user), "--gid", str(group), "/bin/true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise StackError(
            "bwrap cannot enter the root file system; the kernel or the container must allow user namespaces "
            f"(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone): {done.stderr.strip()}"
        )


def _run(
    argv: list[str], purpose: str, done: Mapping[str, str] = MappingProxyType({}), say: Say = lambda _: None
) -> None:
    log = GROUND / "ground.log"
    with log.open("ab") as file:
        begun = file.tell()
        # close_fds: the lock goes along, see _one_at_a_time.
        child = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, close_fds=False)
        try:
            while True:
                try:
                    code = child.wait(_SAY_SECONDS if done else None)
                    break
                except subprocess.TimeoutExpired:
                    say(how_far(log, begun, done))
        except KeyboardInterrupt:
            # The Ctrl-C reached it as well, and it may be root's: it cleans up and ends by itself.
            child.wait()
            raise
    if code:
        last = log.read_text(errors="replace").splitlines()[-15:]
        raise StackError(
            f"could not {purpose} ({argv[0]} ended with {code}); last lines of {log}:\n" + "\n".join(last)
        )


def how_far(log: Path, begun: int, done: Mapping[str, str]) -> str:
    """How many lines of the log from this byte on match each expression: `3 fetched, 1 set up`."""
    with log.open("rb") as file:
        file.seek(begun)
        text = file.read().decode(errors="replace")
    counts = {word: len(re.findall(expression, text, re.MULTILINE)) for word, expression in done.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


@contextmanager
def _one_at_a_time(report: Report) -> Iterator[None]:
    with (GROUND / "lock").open("w") as file:
        # The tools inherit it: one that outlives a killed command keeps the next command waiting.
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with report.working("Another command is making the root file system; waiting for it"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
