"""The units for systemd run the same processes as the Procfile, with the same limits as Compose."""

import re
import shlex

from compose.local.layout import PROJECT
from tests.unit.deployment.documents import DEFAULTS, PROCFILE, SERVICES

FOLDER = PROJECT / "compose" / "systemd"
COMMON = FOLDER / "sluice-.service.d" / "common.conf"


def _values(text: str) -> dict[str, str]:
    """The settings of a unit file, by `Section.Name`; a name that comes twice fails."""
    values: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert f"{section}.{name}" not in values, line
            values[f"{section}.{name}"] = value
    return values


def _unit(name: str) -> dict[str, str]:
    return _values((FOLDER / f"sluice-{name}.service").read_text())


def test_there_is_a_unit_for_each_process_with_its_command() -> None:
    """The commands are those of the Procfile, from one installation; Flower's port has the same default."""
    assert {path.stem for path in FOLDER.glob("*.service")} == {f"sluice-{name}" for name in PROCFILE}
    for name, command in PROCFILE.items():
        unit = _unit(name)
        program, *arguments = shlex.split(unit["Service.ExecStart"])
        wanted = command.replace("${FLOWER_PORT:-5555}", "${FLOWER_PORT}").replace("%", "%%")
        assert [program.removeprefix("/opt/sluice/bin/"), *arguments] == shlex.split(wanted), name
        if "${FLOWER_PORT}" in wanted:
            assert unit["Service.Environment"] == f"FLOWER_PORT={DEFAULTS['flower_port']}"


def test_the_limits_of_memory_are_those_of_compose() -> None:
    """One number for each process, wherever it runs."""
    for name in PROCFILE:
        assert _unit(name)["Service.MemoryMax"].lower() == SERVICES[name]["mem_limit"], name


def test_all_start_with_one_target_and_come_back() -> None:
    """The target starts and stops them together; one that ends is started again, without an end to it."""
    common = _values(COMMON.read_text())
    target = _values((FOLDER / "sluice.target").read_text())
    assert target["Install.WantedBy"] == "multi-user.target"
    assert all(_unit(name)["Install.WantedBy"] == "sluice.target" for name in PROCFILE)
    assert common["Unit.PartOf"] == "sluice.target"
    assert common["Service.Restart"] == "always"
    assert common["Unit.StartLimitIntervalSec"] == "0"


def test_a_stop_leaves_time_for_what_has_begun() -> None:
    """Longer than the settings take, and the signal goes to the main process alone."""
    common = _values(COMMON.read_text())
    assert common["Service.KillMode"] == "mixed"
    stop = int(common["Service.TimeoutStopSec"])
    assert stop > DEFAULTS["stop_grace_seconds"]
    assert stop > DEFAULTS["celery_soft_shutdown_seconds"]


def test_no_process_has_rights_that_it_does_not_need() -> None:
    """A user of its own for each, no capability, no home, and settings that only root reads from the disk."""
    common = _values(COMMON.read_text())
    assert common["Service.DynamicUser"] == "yes"
    assert common["Service.CapabilityBoundingSet"] == ""
    assert common["Service.ProtectHome"] == "yes"
    assert common["Service.EnvironmentFile"] == "/etc/sluice/env"
    assert "SLUICE_ENV_FILE=/dev/null" in common["Service.Environment"]
