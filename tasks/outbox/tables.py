"""Writing `active_alerts` and `alert_history` from entries of the outbox."""

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from tasks.channels import tables as deliveries
from tasks.outbox.entry import Entry
from tasks.outbox.stream import Superseded
from tasks.rules.active_alerts import ActiveAlert
from tasks.rules.change import RECORDED
from tasks.servers.database import Connection

STATEMENT_SECONDS = 5
# Held to the end of the transaction, so that two workers write one after the other.
WRITERS = 0x51_A1E_27

_KEY = ("user_id", "device_id", "rule_id")
_ROW = tuple(field.name for field in fields(ActiveAlert))
_CHANGE = (
    *RECORDED,
    "kafka_partition",
    "kafka_offset",
    "outbox_position",
)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# Changes that were not there before, and the deliveries of each to the channels that send it.
_INSERT_HISTORY = f"""
WITH added AS (
    INSERT INTO alert_history ({_quoted(_CHANGE)})
    SELECT {_quoted(_CHANGE)} FROM jsonb_populate_recordset(NULL::alert_history, %s::jsonb)
    ON CONFLICT DO NOTHING
    RETURNING alert_id, status, time, user_id, device_id, rule_id, severity, "number"
)
{deliveries.ADD}
"""  # noqa: S608 - the names are those of our own fields

_UPSERT_ROWS = f"""
INSERT INTO active_alerts ({_quoted(_ROW)})
SELECT {_quoted(_ROW)} FROM jsonb_populate_recordset(NULL::active_alerts, %s::jsonb)
ON CONFLICT ({_quoted(_KEY)}) DO UPDATE
SET ({_quoted(_ROW[3:])}, updated_at) = ROW ({", ".join(f'excluded."{name}"' for name in _ROW[3:])}, now())
"""  # noqa: S608 - the names are those of our own fields

_UPSERT_OLD_ROWS = f"""
INSERT INTO active_alerts ({_quoted(_ROW)})
SELECT {_quoted(_ROW)} FROM jsonb_populate_recordset(NULL::active_alerts, %s::jsonb) AS old
WHERE NOT EXISTS (
    SELECT FROM alert_history AS known
    WHERE (known.user_id, known.device_id, known.rule_id) = (old.user_id, old.device_id, old.rule_id)
        AND known."number" > old."number")
ON CONFLICT ({_quoted(_KEY)}) DO UPDATE
SET ({_quoted(_ROW[3:])}, updated_at) = ROW ({", ".join(f'excluded."{name}"' for name in _ROW[3:])}, now())
WHERE active_alerts."number" < excluded."number"
"""  # noqa: S608 - the names are those of our own fields

_DELETE_ENDED_ROW = """
DELETE FROM active_alerts WHERE user_id = %s AND device_id = %s AND rule_id = %s
    AND EXISTS (SELECT FROM alert_history AS known
        WHERE known.alert_id = active_alerts.alert_id AND known.status = 'RESOLVED')
"""

_NOTE_PUBLISHED = """
INSERT INTO alert_delivery (consumer, outbox_position) VALUES ('mqtt', %s)
ON CONFLICT (consumer) DO UPDATE SET outbox_position = excluded.outbox_position, updated_at = now()
WHERE alert_delivery.outbox_position < excluded.outbox_position
"""

_CLAIM = """
INSERT INTO alert_delivery (consumer, outbox_position, memory) VALUES ('database', 0, %s)
ON CONFLICT (consumer) DO UPDATE SET memory = excluded.memory, updated_at = now()
"""
# A commit without anything new awaits no standby, not even for what an earlier one wrote that was broken off
# while it waited. This is always new.
_AWAIT_STANDBY = "SELECT pg_logical_emit_message(true, 'sluice', '')"
_CLAIMED = "SELECT memory FROM alert_delivery WHERE consumer = 'database'"

_DELETE_ROWS = """
DELETE FROM active_alerts
USING unnest(%s::text[], %s::text[], %s::text[]) AS gone (user_id, device_id, rule_id)
WHERE (active_alerts.user_id, active_alerts.device_id, active_alerts.rule_id)
    = (gone.user_id, gone.device_id, gone.rule_id)
"""

_PROBE = """
INSERT INTO alert_history (alert_id, status, time, user_id, device_id, rule_id)
VALUES (gen_random_uuid(), 'TRIGGERED', now(), '', '', '');
INSERT INTO active_alerts (user_id, device_id, rule_id, status) VALUES ('', '', gen_random_uuid(), 'PENDING')
"""


def claim(connection: Connection, memory: str) -> None:
    """Notes the memory of Redis that the states are rebuilt in; from then on no other's outbox is written.

    Raises `psycopg.Error`.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WRITERS])
        cursor.execute(_CLAIM, [memory])


def write(
    connection: Connection,
    entries: Iterable[Entry],
    before: Callable[[], None],
    seconds: float = STATEMENT_SECONDS,
    memory: str = "",
) -> bool:
    """Writes the entries, in their order, in one transaction; a change that exists already stays as it is.

    Returns whether channels are to be sent any.

    Each statement may take `seconds`, and wait for a lock half as long. `before` is called once no other
    worker can write until the commit: if it raises, the tables stay as they were. Raises `psycopg.Error`,
    `KeyError` or `TypeError` for a malformed entry, and `Superseded` if the states have been rebuilt in
    another memory of Redis than the one that the entries are from.
    """
    history, present, gone = _collapse(entries)
    told = False
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            f"SET LOCAL statement_timeout = '{seconds * 1000:.0f}ms';"
            # Distinguishes waiting for a lock from a slow statement.
            f"SET LOCAL lock_timeout = '{seconds * 500:.0f}ms';"
            # A worker that was stopped here, or lost its network, must not hold up the others forever.
            f"SET LOCAL idle_in_transaction_session_timeout = '{2 * STATEMENT_SECONDS}s'"
        )
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WRITERS])
        before()
        claimed = cursor.execute(_CLAIMED).fetchone() if memory else None
        if claimed and claimed[0] not in {None, memory}:
            raise Superseded("the states have been rebuilt by another master of Redis")
        if history:
            cursor.execute(_INSERT_HISTORY, [json.dumps(history, ensure_ascii=False)])
            told = cursor.rowcount > 0
        if present:
            cursor.execute(_UPSERT_ROWS, [json.dumps(present, ensure_ascii=False)])
        if gone:
            cursor.execute(_DELETE_ROWS, [list(column) for column in zip(*gone, strict=True)])
        cursor.execute(_AWAIT_STANDBY)
    return told


def write_again(connection: Connection, entry: Entry) -> None:
    """Writes an old entry in one transaction: its changes, and its rows unless newer ones are known.

    Raises like `write`.
    """
    history, present, gone = _collapse([entry])
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WRITERS])
        cursor.execute(_INSERT_HISTORY, [json.dumps(history, ensure_ascii=False)])
        cursor.execute(_UPSERT_OLD_ROWS, [json.dumps(present, ensure_ascii=False)])
        for key in gone:
            cursor.execute(_DELETE_ENDED_ROW, key)
        cursor.execute(_AWAIT_STANDBY)


def probe(connection: Connection) -> None:
    """Writes a change and a row, and rolls both back: if it passes, the tables can be written at present.

    Raises `psycopg.Error`.
    """
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute(_PROBE)


def note_published(connection: Connection, position: int) -> None:
    """Notes up to which position changes were published over MQTT. Raises `psycopg.Error`."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute(_NOTE_PUBLISHED, [position])


def _collapse(
    entries: Iterable[Entry],
) -> tuple[list[Any], list[Any], list[tuple[str, str, str]]]:
    """All changes, and for each row the content of the last entry that names it."""
    history: list[Any] = []
    rows: dict[tuple[str, str, str], Any] = {}
    for entry in entries:
        document = entry.document
        history += [{**change["record"], "outbox_position": entry.position} for change in entry.changes()]
        device = (document["user_id"], document["device_id"])
        rows.update({(*device, row["rule_id"]): row for row in document["written"]})
        rows.update({(*device, rule_id): None for rule_id in document["gone"]})
    present = [row for row in rows.values() if row is not None]
    return history, present, [key for key, row in rows.items() if row is None]
