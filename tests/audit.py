"""The dependency audit of `make check`, which needs no network: `python -m tests.audit`.

It says whether what is installed is what was pinned and tested, fits together, and is at or above the
versions in which the vulnerabilities listed here were mended. It knows no others: for those run
`pip-audit --strict` where there is a network.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# Comes with the virtual environment, and is not the project's.
_AROUND = {"pip", "setuptools", "wheel", "sluice"}

# By package: the first version that is mended, and of what.
MENDED = {
    "celery": ("5.2.2", "CVE-2021-23727, commands from a forged result"),
    "certifi": ("2024.7.4", "CVE-2024-39689, roots that are trusted no longer"),
    "cryptography": ("44.0.1", "CVE-2024-12797, an unauthenticated peer with raw keys"),
    "flower": ("1.2.0", "CVE-2022-30034, login by OAuth for everybody"),
    "idna": ("3.7", "CVE-2024-3651, endless work for one name"),
    "PyYAML": ("5.4", "CVE-2020-14343, code from a document"),
    "redis": ("4.5.4", "CVE-2023-28859, the answer of somebody else's command"),
    "requests": ("2.32.4", "CVE-2024-47081, a login from netrc for the wrong host"),
    "tornado": ("6.5", "CVE-2025-47287, a flood of log lines"),
    "urllib3": ("2.5.0", "CVE-2025-50181, redirects in spite of the settings"),
}


def pinned(text: str) -> dict[str, Version]:
    """The versions of a constraints file, by name. Raises `ValueError` for a line that pins none."""
    versions: dict[str, Version] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if found is None:
            raise ValueError(f"{line!r} pins no version")
        versions[canonicalize_name(found[1])] = Version(found[2])
    return versions


def differences(installed: dict[str, Version], wanted: dict[str, Version]) -> list[str]:
    """The packages installed in another version than pinned, or not pinned at all."""
    told = []
    for name, version in sorted(installed.items()):
        if name in _AROUND:
            continue
        if name not in wanted:
            told.append(f"{name} {version} is installed and not in constraints.txt")
        elif wanted[name] != version:
            told.append(f"{name} is {version}, and pinned to {wanted[name]}")
    return told


def vulnerable(versions: dict[str, Version]) -> list[str]:
    """The versions that have a vulnerability of the list."""
    return [
        f"{name} {versions[canonicalize_name(name)]} has {what}; mended in {mended}"
        for name, (mended, what) in MENDED.items()
        if versions.get(canonicalize_name(name), Version("9999")) < Version(mended)
    ]


def undeclared(wanted: dict[str, Version]) -> list[str]:
    """The packages that pyproject.toml asks for and constraints.txt does not pin."""
    requirements = [Requirement(text) for text in metadata.requires("sluice") or ()]
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    return [f"{name} is declared and not pinned" for name in sorted(names - set(wanted))]


def main() -> None:
    """Prints every fault; exit code 1 if there is one."""
    installed = {
        str(canonicalize_name(one.metadata["Name"])): Version(one.version) for one in metadata.distributions()
    }
    wanted = pinned(CONSTRAINTS.read_text())
    faults = [*differences(installed, wanted), *undeclared(wanted), *vulnerable(installed)]
    fit = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if fit.returncode:
        faults += fit.stdout.splitlines()
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    sys.stdout.write(f"{len(wanted)} packages pinned, {len(MENDED)} known vulnerabilities looked for\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
