"""`sluice domain new`: what it writes works as it is, and nothing is written over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.admin.domains import domain_template
from ingest.admin.domains.domain_table import ddl
from ingest.admin.errors import OperatorError
from tasks.registry import load
from tests.conftest import PROJECT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_domain_that_exists_is_not_written_again(here: Path) -> None:
    """A name of DOMAINS is refused: two domains of one name cannot run side by side."""
    with pytest.raises(OperatorError, match="telemetry is already the name of a domain"):
        domain_template.write("telemetry", Path("domains"))
    assert not (here / "domains").exists()


def test_the_new_test_passes_at_once(here: Path) -> None:
    """The module can be imported by the name that DOMAINS would have, and its test finds it right."""
    module, test = domain_template.write("cold_rooms", Path("domains"))
    assert domain_template.module_of(module) == "domains.cold_rooms"
    project = PROJECT
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(project), "SLUICE_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_new_domain_goes_with_the_ones_that_are_there(here: Path) -> None:
    """Its names are its own, and its migration names its table."""
    domain_template.write("vans", Path())
    sys.path.insert(0, str(here))
    try:
        _, vans = load("tasks.telemetry,vans")
    finally:
        sys.path.remove(str(here))
        del sys.modules["vans"]
    assert (vans.name, vans.source, vans.table) == ("vans", "van_id", "raw_vans")
    assert 'CREATE TABLE "raw_vans"' in ddl(vans)


@pytest.mark.usefixtures("here")
def test_nothing_is_written_over() -> None:
    """Files that are there stay as they are."""
    module, test = domain_template.write("vans", Path())
    test.unlink()
    module.write_text("mine")
    with pytest.raises(OperatorError, match=r"vans\.py already exists"):
        domain_template.write("vans", Path())
    assert module.read_text() == "mine"
    assert not test.exists()


@pytest.mark.parametrize(
    ("name", "folder"), [("Vans", "."), ("1vans", "."), ("vans", "my-domains"), ("vans", "/domains")]
)
def test_what_cannot_be_imported_is_refused(here: Path, name: str, folder: str) -> None:
    """A name or folder that is none in Python."""
    with pytest.raises(OperatorError):
        domain_template.write(name, Path(folder))
    assert list(here.iterdir()) == []
