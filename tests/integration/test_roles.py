"""The least-privileged roles can do their work, and nothing else."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from compose.local.layout import PROJECT
from compose.local.passwords import password
from compose.local.stack import Stack
from ingest.admin.accounts import accounts, passwords, provision
from ingest.admin.servers import migrate, roles
from tasks.domain.routing import limits
from tasks.registry import default
from tasks.rollups import make
from tests.integration.commands import sluice

DASHBOARDS = PROJECT / "compose" / "observability" / "grafana" / "dashboards"

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def logins(stack: Stack) -> Iterator[dict[str, str]]:
    """The roles, made and given their rights; a conninfo for each."""
    direct = stack.env["DATABASE_DIRECT_URL"]
    superuser = make_conninfo(direct, user="postgres", password=password(stack.layout, "postgres-superuser"))
    secret = uuid4().hex
    with psycopg.connect(superuser, autocommit=True) as server:
        made = roles.create(server)
        for name in roles.ROLES:
            roles.set_password(server, name, secret)
        assert roles.create(server) == []
    with psycopg.connect(direct, autocommit=True) as owner:
        migrate.migrate(owner, migrate.load(), lambda _: None)
    yield {name: make_conninfo(direct, user=name, password=secret) for name in roles.ROLES}
    with psycopg.connect(superuser, autocommit=True) as server:
        for name in made:
            server.execute(f"DROP OWNED BY {name}")
            server.execute(f"DROP ROLE {name}")


def denied(connection: Database, statement: str) -> None:
    """Fails unless the database denies the statement."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_writer_stores_and_does_nothing_else_to_readings(logins: dict[str, str]) -> None:
    """Both ways of COPY work; readings can be neither removed nor changed, accounts not even seen."""
    domain = default()
    reading = domain.validate(
        "users/role/devices/d/telemetry", b'{"sequence_id": 1}', 1_700_000_000_000, limits()
    )
    with psycopg.connect(logins["sluice_writer"], autocommit=True) as writer:
        with writer.transaction(), writer.cursor() as cursor:
            cursor.execute(domain.stage)
            with cursor.copy(domain.copy_staged) as copy:
                copy.write(reading.copy_line)
            cursor.execute(domain.insert_staged)
        writer.execute("INSERT INTO user_configs (user_id) VALUES ('role') ON CONFLICT DO NOTHING")
        writer.execute("DELETE FROM user_configs WHERE user_id = 'role'")
        # By this the gateway finds owners of topics; the accounts themselves stay hidden.
        writer.execute("SELECT username, user_id, permission, topic FROM mqtt_publishers")
        for statement in (
            "DELETE FROM raw_telemetry",
            "UPDATE raw_telemetry SET temperature = 1",
            "DELETE FROM alert_history",
            "UPDATE retention SET days = 1",
            "SELECT * FROM mqtt_users",
            "INSERT INTO mqtt_acl VALUES ('x', 'allow', 'all', '#')",
            "CREATE TABLE mine (id int)",
            "DROP TABLE user_configs",
            "TRUNCATE raw_telemetry",
            "SELECT * FROM operator_audit",
            "DELETE FROM operator_audit",
            "UPDATE operator_audit SET role = 'other'",
        ):
            denied(writer, statement)


def test_the_writer_only_adds_to_any_domains_table(logins: dict[str, str], database: Database) -> None:
    """Whichever domain it is of, and whatever an earlier version granted on one that no domain has now."""
    for table in ("raw_present", "raw_former"):
        database.execute(f"CREATE TABLE {table} (LIKE raw_telemetry INCLUDING ALL)")
    database.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON raw_former TO sluice_writer")
    try:
        with database.transaction():
            declared = '[{"relation": "raw_telemetry"}, {"relation": "raw_present"}]'
            database.execute("SELECT set_config('sluice.hypertables', %s, true)", [declared])
            (rights,) = (one for one in migrate.load() if one.name == "rights")
            database.execute(rights.sql.encode())
        with psycopg.connect(logins["sluice_writer"], autocommit=True) as writer:
            for table in ("raw_present", "raw_former"):
                writer.execute(
                    f"INSERT INTO {table} (time, user_id, device_id, sequence_id) VALUES (now(), 'u', 'd', 1)"
                )
                for statement in ("UPDATE {} SET battery = 1", "DELETE FROM {}", "TRUNCATE {}"):
                    denied(writer, statement.format(table))
    finally:
        database.execute("DROP TABLE raw_present, raw_former")


def test_who_writes_rules_with_the_workers_role_is_in_the_audit(
    logins: dict[str, str], database: Database
) -> None:
    """The role that logged in, although it has no right to the trail itself."""
    user = uuid4().hex[:8]
    with psycopg.connect(logins["sluice_writer"], autocommit=True, application_name="psql") as writer:
        writer.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, '[]')", [user])
        writer.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
    trail = "SELECT role, application, os_user, action FROM operator_audit WHERE key = %s ORDER BY id"
    assert database.execute(trail, [user]).fetchall() == [
        ("sluice_writer", "psql", None, "INSERT"),
        ("sluice_writer", "psql", None, "DELETE"),
    ]


def test_emqx_reads_accounts_and_rights_and_nothing_else(logins: dict[str, str], database: Database) -> None:
    """The queries of `emqx.conf` work for its role; telemetry, rules and changes are denied."""
    credential = provision.provision(database, accounts.device(f"emqx-{uuid4().hex[:8]}", "d"))
    with psycopg.connect(logins["sluice_emqx"], autocommit=True) as reader:
        login = (
            "SELECT password_hash, salt, is_superuser FROM mqtt_users WHERE username = %s AND enabled LIMIT 1"
        )
        hashed, salt, superuser = reader.execute(login, [credential.username]).fetchall()[0]
        assert (passwords.hash_password(credential.password, salt), False) == (hashed, superuser)
        rights = "SELECT permission, action, topic FROM mqtt_acl WHERE username = %s"
        assert len(reader.execute(rights, [credential.username]).fetchall()) == 2
        for statement in (
            "SELECT * FROM raw_telemetry",
            "SELECT * FROM user_configs",
            "UPDATE mqtt_users SET is_superuser = true",
            "DELETE FROM mqtt_acl",
        ):
            denied(reader, statement)
    provision.remove(database, credential.username)


def test_the_reader_runs_every_query_of_the_page_and_changes_nothing(
    logins: dict[str, str], database: Database
) -> None:
    """Each query of docs/queries.md and of Grafana finds something; no account, rule or change is for it."""
    now = datetime.now(UTC)
    hour = int(now.timestamp()) // 3600
    begin = datetime.fromtimestamp(hour * 3600, UTC)
    owned = ("raw_telemetry", "devices", "rollups_hourly", "rollups_daily", "active_alerts", "alert_history")
    for number, hours in enumerate((0, 2, 5, 50)):
        database.execute(
            "INSERT INTO raw_telemetry VALUES (%s, 'anna', 'boiler', %s, 20.5, %s, %s)",
            [begin - hours * timedelta(hours=1), number, 90 + hours, Jsonb({"firmware": "2.1"})],
        )
        with database.transaction():
            make.make(database, default(), hour - hours, None)
    database.execute("INSERT INTO devices VALUES ('anna', 'boiler', 'telemetry', %s, %s)", [now, now])
    alert = "(user_id, device_id, rule_id, alert_id, status, first_seen) SELECT 'anna', 'boiler', 'r', 'a',"
    database.execute(f"INSERT INTO active_alerts {alert} 'TRIGGERED', %s", [now])
    history = alert.replace("first_seen", "time")
    database.execute(f"INSERT INTO alert_history {history} 'TRIGGERED', %s", [begin - timedelta(hours=2)])
    try:
        page = (PROJECT / "docs" / "queries.md").read_text()
        queries = re.findall(r"```sql\n(.+?)```", page, re.DOTALL)
        assert len(queries) > 5
        with psycopg.connect(logins["sluice_reader"], autocommit=True) as reader:
            for query in (*queries, *_of_dashboards()):
                assert reader.execute(query.encode()).rowcount > 0, query
            (found,) = reader.execute("SELECT reading FROM latest WHERE user_id = 'anna'").fetchall()
            assert (found[0]["sequence_id"], found[0]["temperature"]) == (0, 20.5)
            for statement in (
                "SELECT * FROM mqtt_users",
                "SELECT * FROM user_configs",
                "DELETE FROM raw_telemetry",
                "UPDATE rollups_hourly SET count = 0",
                "SELECT sluice_expire('raw_telemetry', 1)",
                "CREATE TABLE mine (id int)",
            ):
                denied(reader, statement)
    finally:
        for table in owned:
            database.execute(f"DELETE FROM {table} WHERE user_id = 'anna'")


def _of_dashboards() -> list[str]:
    """The SQL of Grafana's dashboards, as Grafana sends it of a device and two days."""
    boards = [
        json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("readings", "alerts")
    ]
    found = [variable["query"] for board in boards for variable in board["templating"]["list"]]
    found += [
        target["rawSql"] for board in boards for panel in board["panels"] for target in panel["targets"]
    ]
    assert len(found) > 10
    values = {"user": "'anna'", "device": "'boiler'", "key": "'temperature'"}
    return [
        re.sub(
            r"\$__timeFilter\((\w+)\)",
            r"\1 BETWEEN now() - interval '3 days' AND now()",
            re.sub(r"\$\{(\w+):sqlstring\}", lambda name: values[name[1]], query),
        ).replace("$__interval_ms", "60000")
        for query in found
    ]


def test_a_password_that_a_role_gets_is_in_the_audit_and_not_what_it_is(
    stack: Stack, logins: dict[str, str], database: Database
) -> None:
    """By `sluice roles`, whose statements no trigger sees."""
    secret = str(conninfo_to_dict(logins["sluice_emqx"])["password"])
    direct = urlsplit(stack.env["DATABASE_DIRECT_URL"])
    login = f"postgres:{password(stack.layout, 'postgres-superuser')}"
    url = direct._replace(netloc=f"{login}@{direct.hostname}:{direct.port}").geturl()
    done = sluice(
        stack, "roles", "--password-stdin", "sluice_emqx", stdin=f"{secret}\n", DATABASE_DIRECT_URL=url
    )
    assert done.returncode == 0, done.stderr
    trail = "SELECT action, role, after FROM operator_audit WHERE subject = 'role' AND key = 'sluice_emqx'"
    assert database.execute(trail).fetchall() == [("ALTER", "postgres", {"password": "new"})]
    assert secret not in done.stdout + done.stderr


def test_who_may_not_make_roles_is_told_what_to_do(database: Database) -> None:
    """The owner of the tables alone gives nobody a password, and gets a sentence that says so."""
    with pytest.raises(roles.RolesRefused, match="not allowed"):
        roles.set_password(database, "postgres", "x")


def test_the_reader_exports_and_the_writer_imports(
    stack: Stack, logins: dict[str, str], tmp_path: Path
) -> None:
    """Each may do the one and not the other; neither may erase, nor see what it would."""
    file = str(tmp_path / "rows.csv")

    def run(role: str, *arguments: str) -> tuple[int, str]:
        done = sluice(stack, *arguments, DATABASE_DIRECT_URL=logins[role])
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    with psycopg.connect(logins["sluice_writer"], autocommit=True) as writer:
        writer.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id)"
            " VALUES ('2026-05-02', 'role', 'd', 7) ON CONFLICT DO NOTHING"
        )
    span = ("--user", "role", "--from", "2026-05-02", "--to", "2026-05-03", "--out", file)
    assert run("sluice_reader", "export", *span) == (0, "1 row\n")
    assert run("sluice_writer", "import", file)[0] == 0
    for role in ("sluice_reader", "sluice_writer"):
        assert "is not allowed to do this" in run(role, "erase", "user", "role", "--yes")[1]
    assert "is not allowed to do this" in run("sluice_reader", "import", file)[1]
