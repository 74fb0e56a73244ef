"""A start of the Compose stack needs more than valid names: health checks that can fail, free ports."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from compose import generate_secrets
from compose.local import envfile
from compose.local.layout import PROJECT
from tests.unit.deployment.documents import PROCFILE, SERVICES, VARIABLES

ENV = envfile.read(PROJECT / "compose" / ".env")
COLLECTOR = "otel-collector"


def _own() -> list[str]:
    """The services that run Sluice's image."""
    return [*PROCFILE, "setup"]


def _check(name: str) -> str:
    """The command of a service's health check, as one line."""
    return " ".join(SERVICES[name]["healthcheck"]["test"][1:])


def test_the_health_check_of_the_pool_names_a_user_and_a_database_that_it_has() -> None:
    """Without them pg_isready asks as the container's own user, and PgBouncer logs an error each time."""
    check = shlex.split(_check("pgbouncer"))
    user, database = (
        next(word.partition("=")[2] for word in check if word.startswith(f"--{option}="))
        for option in ("username", "dbname")
    )
    users = generate_secrets.DERIVED["pgbouncer.userlist.txt"](lambda name: name)
    assert f'"{user}"' in users
    pool = (PROJECT / "compose" / "pgbouncer" / "pgbouncer.ini").read_text()
    assert re.search(rf"^{database} = host=", pool, re.MULTILINE)


def test_redpanda_is_healthy_only_when_it_says_so() -> None:
    """The check reads the answer: the exit code of `rpk cluster health` is 0 in some versions either way."""
    pattern = re.search(r"rpk cluster health \| grep -qE '(.+)'$", _check("redpanda"))
    assert pattern
    assert SERVICES["redpanda"]["healthcheck"]["test"][0] == "CMD-SHELL"
    assert re.search(pattern[1], "CLUSTER HEALTH OVERVIEW\nHealthy:                          true\n")
    assert not re.search(pattern[1], "CLUSTER HEALTH OVERVIEW\nHealthy:                          false\n")


def test_nothing_exports_traces_to_a_collector_that_does_not_run() -> None:
    """The address comes from `.env`, beside the profiles, and goes with the profile of the collector."""
    for name in _own():
        endpoint = SERVICES[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert endpoint == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}", name
    runs = set(SERVICES[COLLECTOR]["profiles"]) <= set(ENV["COMPOSE_PROFILES"].split(","))
    assert (COLLECTOR in ENV.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")) == runs


def test_every_process_is_found_by_the_status_of_another_container() -> None:
    """`PROCESS_HOST` makes a name of each process, and that name is its service."""
    for name in _own():
        host = SERVICES[name]["environment"]["PROCESS_HOST"]
        assert {host.replace("{process}", process) for process in PROCFILE} == set(PROCFILE)
    assert "PROCESS_HOST" in VARIABLES


def test_every_port_of_the_machine_can_be_changed() -> None:
    """Each has a variable of its own, named in `.env`, and Kafka advertises the port that is published."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    found = [re.fullmatch(r"127\.0\.0\.1:\$\{(HOST_[A-Z_]+):-(\d+)\}:\2", port) for port in published]
    assert all(found), published
    variables = [one[1] for one in found if one]
    assert len(set(variables)) == len(variables)
    text = (PROJECT / "compose" / ".env").read_text()
    assert all(re.search(rf"\b{variable}\b", text) for variable in variables)
    command = " ".join(SERVICES["redpanda"]["command"])
    assert "external://localhost:${HOST_KAFKA_PORT:-19092}" in command


def test_our_image_is_built_once_and_never_fetched() -> None:
    """Nobody publishes `sluice:local`: the service that all others wait for builds it, at each start."""
    assert SERVICES["setup"]["pull_policy"] == "build"
    assert SERVICES["setup"]["build"]["context"] == ".."
    for name in PROCFILE:
        assert SERVICES[name]["image"] == SERVICES["setup"]["image"], name
        assert SERVICES[name]["pull_policy"] == "never", name
        assert "build" not in SERVICES[name], name
        assert SERVICES[name]["depends_on"]["setup"]["condition"] == "service_completed_successfully", name


def test_new_passwords_do_not_lock_out_of_data_that_exists(tmp_path: Path) -> None:
    """`--renew` keeps the old files, says how the servers learn the new passwords, and keeps certificates."""
    folder = tmp_path / "secrets"
    generate_secrets.generate(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    kept = generate_secrets.renew(folder)
    after = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert {path.name: path.read_text() for path in kept.iterdir()} == before
    assert all(after[name] != before[name] for name in generate_secrets.RENEWED)
    # Redpanda has its own copy, and nothing here gives it another.
    assert after["kafka_sasl_password"] == before["kafka_sasl_password"]
    # Else the broker would keep the telemetry of the old session for a client that never comes back.
    assert after["mqtt_session_secret"] == before["mqtt_password"]
    assert after["mqtt_server.pem"] == before["mqtt_server.pem"]
    assert after["database_writer_password"] in after["database_url"]
    # A folder of a version that had no such file; and one of which older copies were removed.
    (folder / "mqtt_session_secret").unlink()
    generate_secrets.renew(folder)
    assert (folder / "mqtt_session_secret").read_text() == after["mqtt_password"]
    shutil.rmtree(kept)
    assert generate_secrets.renew(folder).name == "before-3"
    roles = (PROJECT / "compose" / "timescaledb" / "010_roles.sh").read_text()
    # May run again on a volume that has the roles: then it gives them the passwords of the files.
    assert "ALTER ROLE" in roles
    assert "CREATE DATABASE sluice OWNER sluice" in roles


def _setup(folder: Path, sluice: str) -> subprocess.CompletedProcess[str]:
    """Runs the commands of `setup` with this script in the place of `sluice`, and no secrets to read."""
    program = folder / "sluice"
    program.write_text(f"#!/bin/sh\n{sluice}\n")
    program.chmod(0o755)
    for name in ("mqtt_password", "mqtt_vector_password"):
        (folder / name).touch()
    entry = SERVICES["setup"]["entrypoint"]
    text = SERVICES["setup"]["command"][0].replace("$$", "$").replace("/run/secrets", str(folder))
    return subprocess.run(
        [*entry, text],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_passwords_that_an_old_volume_does_not_know_are_refused_with_the_steps(tmp_path: Path) -> None:
    """`setup` ends with 1 and names the command that helps, as the docs do; other faults do not."""
    wrong = _setup(tmp_path, "echo 'password authentication failed for user \"sluice\"' >&2; exit 1")
    assert wrong.returncode == 1
    assert 'for user "sluice"' in wrong.stdout
    step = "exec timescaledb sh /docker-entrypoint-initdb.d/010_roles.sh"
    assert step in wrong.stdout
    assert step in (PROJECT / "docs" / "deploy.md").read_text()
    away = _setup(tmp_path, "echo 'connection refused' >&2; exit 1")
    assert (away.returncode, away.stdout) == (1, "connection refused\n")


def test_setup_migrates_makes_topics_and_accounts_and_stops_at_the_first_fault(tmp_path: Path) -> None:
    """In this order, which each needs."""
    done = _setup(tmp_path, f'echo "$1 $2 $3" >> {tmp_path}/called')
    assert done.returncode == 0, done.stderr
    called = ["migrate  ", "topics  ", "provision service sluice", "provision service vector"]
    assert (tmp_path / "called").read_text().splitlines() == called
    (tmp_path / "called").unlink()
    failed = _setup(tmp_path, f'echo "$1" >> {tmp_path}/called; test "$1" != topics')
    assert failed.returncode != 0
    assert (tmp_path / "called").read_text().split() == ["migrate", "topics"]
