"""The table of a domain in SQL: the migration that makes it, and how a live table differs from it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from ingest.admin.servers.migrate import Migration, checksum
from tasks.domain.declaration import quoted
from tasks.domain.domain import AnyDomain

_MIGRATION = """\
-- {name}, as it is declared. Made by `sluice domain ddl {name}`, and run by every `sluice migrate`.
DO $$
BEGIN
    IF to_regclass('{table}') IS NULL THEN
        CREATE TABLE "{table}" (
            {columns},
            PRIMARY KEY ({key})
        );
        IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
            PERFORM create_hypertable(
                '{table}', by_range('{time}', INTERVAL '1 day'), create_default_indexes => false);
        END IF;
        -- For queries of the latest rows of a source.
        CREATE INDEX "{index}" ON "{table}" ({indexed});
    END IF;
END
$$;
"""
_ADDITIONS = """\

-- Optional fields that were declared later. Workers that do not know them yet leave them null.
DO $$
DECLARE
    added record;
BEGIN
    FOR added IN SELECT * FROM (VALUES
        {columns}
    ) AS declared (name, type)
    WHERE NOT EXISTS (SELECT FROM pg_attribute
                      WHERE attrelid = '{table}'::regclass AND attname = declared.name AND NOT attisdropped)
    LOOP
        EXECUTE format('ALTER TABLE "{table}" ADD COLUMN %I ', added.name) || added.type;
    END LOOP;
END
$$;
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull,
       atthasdef OR attidentity <> '' OR attgenerated <> ''
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""
_UNIQUE = """
SELECT array_agg(attname::text ORDER BY attname)
FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
WHERE indrelid = %s::regclass AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
GROUP BY indexrelid
"""


class _Column(NamedTuple):
    name: str
    sql_type: str
    not_null: bool
    default: bool


def ddl(domain: AnyDomain) -> str:
    """The migration: creates the table if it does not exist, and adds missing optional columns.

    Safe to run again, and without a lock on a table that is as it should be.
    """
    indexed = [name for name in (domain.owner, domain.source, domain.time) if name]
    text = _MIGRATION.format(
        name=domain.name,
        table=domain.table,
        columns=",\n            ".join(_definitions(domain)),
        key=quoted(domain.primary_key),
        time=domain.time,
        index=f"{domain.table}_{domain.source.removesuffix('_id')}_{domain.time}"[:63],
        indexed=quoted(tuple(indexed)),
    )
    optional = [name for name in domain.columns if name in domain.nullable]
    if optional:
        pairs = (f"({_literal(name)}, {_literal(domain.sql_types[name])})" for name in optional)
        text += _ADDITIONS.format(table=domain.table, columns=",\n        ".join(pairs))
    return text


def migrations(domains: Iterable[AnyDomain]) -> list[Migration]:
    """The domains' migrations: they run at every `sluice migrate`, after those of `sql/` that run once."""
    return [
        Migration(0, f"domain {domain.name}", text, checksum(text), always=True)
        for domain in domains
        for text in [ddl(domain)]
    ]


def differences(connection: Connection, domain: AnyDomain) -> list[str]:
    """How the live table differs from the declaration, a sentence each; the order of columns does not count.

    Raises `OperatorError` for a type that the server does not have, and `psycopg.Error`.
    """
    table = domain.table
    if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,):
        return [f"the table {table} does not exist; `sluice migrate` makes it"]
    declared = _as_the_server_says(connection, domain)
    found = _columns(connection, table)
    differences = [
        fault
        for one in declared.values()
        for fault in _compare(one, found.get(one.name), nulls=one.name != domain.extra)
    ]
    differences += [
        f"the column {one.name} is not declared, allows no null and has no default: no row can be written"
        for one in found.values()
        if one.name not in declared and one.not_null and not one.default
    ]
    keys: list[Any] = [row[0] for row in connection.execute(_UNIQUE, [table])]
    if sorted(domain.primary_key) not in keys:
        others = " and ".join(f"({', '.join(key)})" for key in keys) or "no column"
        differences.append(
            f"the key is declared as ({', '.join(domain.primary_key)}), but the table's unique keys are"
            f" {others}: a repeated message would be stored again"
        )
    return differences


def _definitions(domain: AnyDomain) -> list[str]:
    return [f'"{name}" {_type(domain, name)}' for name in domain.columns]


def _type(domain: AnyDomain, name: str) -> str:
    sql_type = domain.sql_types[name]
    if name in domain.nullable:
        return sql_type
    if name in domain.levels:
        # Compares as bytes: inserts cost less, whatever the database's locale.
        return f'{sql_type} COLLATE "C" NOT NULL'
    return f"{sql_type} DEFAULT '{{}}'" if name == domain.extra else f"{sql_type} NOT NULL"


def _as_the_server_says(connection: Connection, domain: AnyDomain) -> dict[str, _Column]:
    """The declared columns, with the types by the names that the server has for them."""
    try:
        with connection.transaction(force_rollback=True):
            columns = ", ".join(_definitions(domain))
            connection.execute(f"CREATE TEMPORARY TABLE sluice_declared ({columns})".encode())
            return _columns(connection, "pg_temp.sluice_declared")
    except psycopg.errors.UndefinedObject as error:
        raise OperatorError(
            f"The domain {domain.name} needs a type that the database lacks: {error.diag.message_primary}."
            " Install its extension, as in CREATE EXTENSION postgis."
        ) from error


def _columns(connection: Connection, table: str) -> dict[str, _Column]:
    with connection.cursor(row_factory=psycopg.rows.args_row(_Column)) as cursor:
        return {column.name: column for column in cursor.execute(_COLUMNS, [table])}


def _compare(declared: _Column, found: _Column | None, *, nulls: bool) -> list[str]:
    """The differences; those of nulls only if these count. Workers never write a null among the extras."""
    name = declared.name
    if found is None:
        if declared.not_null:
            return [
                f"the column {name} ({declared.sql_type}) is missing, and the field is required:"
                " add it with a value for existing rows, or declare it optional"
            ]
        return [f"the column {name} ({declared.sql_type}) is missing; `sluice migrate` adds it"]
    differences = []
    if found.sql_type != declared.sql_type:
        differences.append(
            f"the column {name} is of the type {found.sql_type}, but declared as {declared.sql_type}"
        )
    if not nulls:
        return differences
    if found.not_null and not declared.not_null:
        differences.append(f"the column {name} allows no null, but the field is optional")
    if declared.not_null and not found.not_null:
        differences.append(f"the column {name} allows null, but the field is required")
    return differences


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
