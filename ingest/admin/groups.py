"""The work of `sluice groups`: the groups of a user's devices, which rules name as `@GROUP`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from ingest.admin.accounts.accounts import InvalidId, check_id
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.domain.placement import in_force
from tasks.rules.devices import SIGN, patterns
from tasks.text.times import in_utc
from tasks.text.wording import shorten

# The database's bounds of one user (`sql/0031_device_groups.sql`).
MAX_GROUPS = 100
MAX_GROUPED = 10_000
# The size of a list of devices: more than the largest groups need, too little to fill the memory.
MAX_LIST_BYTES = 4 * 1024 * 1024
MOST_SHOWN = 10

_ADD = """
INSERT INTO device_groups (user_id, group_name, device_id) SELECT %s, %s, unnest(%s::text[])
ON CONFLICT DO NOTHING
"""
_REMOVE = "DELETE FROM device_groups WHERE user_id = %s AND group_name = %s AND device_id = ANY(%s)"
_REMOVE_ALL = "DELETE FROM device_groups WHERE user_id = %s AND group_name = %s"
_DEVICES = "SELECT device_id FROM device_groups WHERE user_id = %s AND group_name = %s ORDER BY 1"
_NAMES = "SELECT DISTINCT group_name FROM device_groups WHERE user_id = %s ORDER BY 1"
_LIST = """
SELECT user_id, group_name, count(*) AS devices, max(added_at) AS added_at FROM device_groups
WHERE %(user)s::text IS NULL OR user_id = %(user)s GROUP BY 1, 2 ORDER BY 1, 2
"""
_RULES = "SELECT rules FROM user_configs WHERE user_id = %s"
# The registry names a source of another domain NAME/ID.
_UNKNOWN = """
SELECT unnest(%(devices)s::text[])
EXCEPT
SELECT CASE WHEN starts_with(device_id, domain || '/') THEN substr(device_id, length(domain) + 2)
       ELSE device_id END
FROM devices WHERE user_id = %(user)s
EXCEPT SELECT device_id FROM mqtt_users WHERE user_id = %(user)s
ORDER BY 1
"""


class Group(NamedTuple):
    """A group, how many devices it has, and when the last of them came."""

    user_id: str
    group_name: str
    devices: int
    added_at: datetime


def from_file(path: str) -> list[str]:
    """The devices in a file, or on stdin for `-`: one on a line. Raises `OperatorError`."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MAX_LIST_BYTES + 1)
        lines = content.decode().splitlines()
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise OperatorError(
            f"{path} must be text in UTF-8, with the id of one device on each line."
        ) from None
    if len(content) > MAX_LIST_BYTES:
        raise OperatorError(
            f"{path} is larger than {MAX_LIST_BYTES >> 20} MiB, which no groups of a user are."
        )
    return [device for line in lines if (device := line.strip())]


def checked(devices: Iterable[str]) -> list[str]:
    """The devices, each once, when every one can be an id. Raises `OperatorError` with each that cannot."""
    faults: list[str] = []
    found = list(dict.fromkeys(devices))
    for device in found:
        try:
            # A source of another domain may hold slashes.
            for part in device.split("/"):
                check_id(part, f"device id {shorten(device, 60)}")
        except InvalidId as error:
            faults.append(str(error))
    if faults:
        more = f"\n… and {len(faults) - MOST_SHOWN} more" if len(faults) > MOST_SHOWN else ""
        raise OperatorError("\n".join(faults[:MOST_SHOWN]) + more)
    return found


def add(connection: Connection, user_id: str, group: str, devices: Sequence[str]) -> int:
    """Adds devices to a group, which is made with the first; returns how many were not in it.

    Raises `OperatorError`, also when the user has too many; then nothing is added.
    """
    check_id(user_id, "user id")
    try:
        return connection.execute(_ADD, [user_id, group, list(devices)]).rowcount
    except psycopg.errors.CheckViolation as error:
        if error.diag.constraint_name == "device_groups_group_name_check":
            raise OperatorError(
                f"{shorten(group, 60)} cannot be the name of a group, which has 1 to 64 letters, digits,"
                " dots, dashes and underscores, the first one a letter or a digit."
            ) from None
        raise OperatorError(f"Nothing was added: {error.diag.message_primary}.") from None


def remove(connection: Connection, user_id: str, group: str, devices: Sequence[str] | None) -> int:
    """Removes devices from a group, None for all; returns how many were in it. Raises `OperatorError`."""
    members(connection, user_id, group)
    if devices is None:
        return connection.execute(_REMOVE_ALL, [user_id, group]).rowcount
    return connection.execute(_REMOVE, [user_id, group, list(devices)]).rowcount


def members(connection: Connection, user_id: str, group: str) -> list[str]:
    """The devices of a group. Raises `OperatorError` if there is no such group."""
    found = [str(device) for (device,) in connection.execute(_DEVICES, [user_id, group])]
    if not found:
        names = ", ".join(str(name) for (name,) in connection.execute(_NAMES, [user_id]))
        raise OperatorError(
            f"The user {user_id} has no group {group}; "
            + (f"the groups are {names}." if names else "there are no groups of this user.")
        )
    return found


def rules_about(connection: Connection, user_id: str, group: str) -> list[str]:
    """The `rule_id` of each rule in force of the user that names the group."""
    row = connection.execute(_RULES, [user_id]).fetchone()
    rules = in_force([] if row is None else row[0]).rules.rules
    wanted = f"{SIGN}{group}"
    return [r.rule_id for r in rules if wanted in {*patterns(r.devices or []), *(r.overrides or ())}]


def unknown(connection: Connection, user_id: str, devices: Sequence[str]) -> list[str]:
    """Those of the devices that have neither an account nor sent anything."""
    rows = connection.execute(_UNKNOWN, {"devices": list(devices), "user": user_id})
    return [str(device) for (device,) in rows]


def listed(connection: Connection, user_id: str | None) -> list[Group]:
    """The groups of all users or of one."""
    with connection.cursor(row_factory=class_row(Group)) as cursor:
        return cursor.execute(_LIST, {"user": user_id}).fetchall()


def as_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups for machines."""
    return [{**one._asdict(), "added_at": in_utc(one.added_at)} for one in groups]


def as_lines(groups: Sequence[Group]) -> Iterator[str]:
    """One line for each group."""
    for one in groups:
        yield f"{one.user_id}/{one.group_name}  devices: {one.devices}  last added {in_utc(one.added_at)}"
