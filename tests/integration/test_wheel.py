"""Sluice without a checkout: the wheel has everything, and runs from an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from compose.local import envfile
from compose.local.layout import GROUND, PROJECT

# What a build reads; the folders of data, secrets and caches stay behind.
_SOURCES = ("ingest", "tasks", "compose", "sql", "celeryconfig.py", "flowerconfig.py", "pyproject.toml")
_LEFT = ("secrets", "__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy, with no network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*_SOURCES, "Procfile", "README.md", "LICENSE"):
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT))
        else:
            shutil.copy(path, source / name)
    # A wheel is made where passwords lie as well: they must not be in it.
    (source / "compose" / "secrets").mkdir()
    (source / "compose" / "secrets" / "emqx.conf").write_text("password")
    options = [
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
        "--wheel-dir",
        str(folder / "dist"),
    ]
    _run([sys.executable, "-m", "pip", "wheel", *options, str(source)], folder)
    (made,) = (folder / "dist").glob("sluice-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; everything else is what is installed here."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], home)
    packages = Path(_run([str(python), "-c", "import site; print(site.getsitepackages()[0])"], home).strip())
    # A line in a .pth file adds a folder and reads none of its own .pth files: so not the checkout.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def _run(argv: list[str], where: Path, **settings: str) -> str:
    """Runs a command with no setting but these; returns what it printed."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(where), **settings}
    done = subprocess.run(
        argv, cwd=where, env=environ, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_what_the_code_reads_and_no_secret(wheel: Path) -> None:
    """Every migration, script and configuration of the checkout is in it; no password, no test."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    folders = [
        PROJECT / name for name in ("tasks", "sql", "compose/local", "compose/systemd", "ingest/console")
    ]
    wanted = {
        str(path.relative_to(PROJECT))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= inside, wanted - inside
    assert not [name for name in inside if name.startswith(("tests", "compose/secrets"))]


def test_commands_run_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Nothing is looked for in a checkout: pages, the version, and all modules are those of the wheel."""
    sluice = str(installed / "bin" / "sluice")
    assert _run([sluice, "--version"], tmp_path).startswith("sluice ")
    assert "`REDIS_URL`" in _run([sluice, "settings"], tmp_path)
    assert _run([sluice, "up", "--", "--help"], tmp_path).startswith("Usage: ")
    code = (
        "import compose.local.layout as l, ingest.cli, tasks, ingest.admin.servers.migrate as m;"
        "print(l.PROJECT, l.GROUND, ingest.__file__, tasks.__file__, len(m.load()))"
    )
    project, ground, *files, migrations = _run([str(installed / "bin/python"), "-c", code], tmp_path).split()
    assert Path(project).is_relative_to(installed)
    assert ground == str(tmp_path / ".local/share/sluice/ground")
    assert all(Path(file).is_relative_to(installed) for file in files)
    assert "tasks.process" in _run(
        [str(installed / "bin/python"), "-m", "celery", "-A", "tasks", "report"], tmp_path
    )
    assert int(migrations) == len(list((PROJECT / "sql").glob("*.sql")))


def test_the_local_stack_starts_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """`sluice up` has the servers, the migrations and every process from the wheel; `down` ends them."""
    # What the servers' programs come from is not made again.
    data = tmp_path / "data"
    (data / "sluice").mkdir(parents=True)
    (data / "sluice" / "ground").symlink_to(GROUND)
    celery = installed / "bin" / "celery"
    celery.write_text(f"#!{installed / 'bin' / 'python'}\nfrom celery.__main__ import main\nmain()\n")
    celery.chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()
    sluice, home = str(installed / "bin" / "sluice"), {"XDG_DATA_HOME": str(data)}
    try:
        _run([sluice, "up", "--free-ports"], folder, **home)
        env = envfile.read(folder / ".local" / "env")
        assert "all well" in _run([sluice, "status"], folder, **env)
        assert "pending" not in _run([sluice, "migrate", "--status"], folder, **env)
    finally:
        _run([sluice, "down"], folder, **home)
