"""The tables that hold a user's or a device's name: what an erasure removes from each, and what it leaves."""

from typing import LiteralString, NamedTuple

from psycopg import sql

from ingest.admin.postgres import Connection


class Target(NamedTuple):
    """A user with everything, or one device: `device_id` as in alerts, `source_id` as in the rows."""

    user_id: str
    device_id: str | None = None
    source_id: str = ""
    domain: str = ""

    @property
    def kind(self) -> str:
        """`user` or `device`."""
        return "user" if self.device_id is None else "device"

    @property
    def name(self) -> str:
        """As it stands in the audit trail: USER, or USER/DEVICE."""
        return self.user_id if self.device_id is None else f"{self.user_id}/{self.device_id}"


class Part(NamedTuple):
    """A table with the condition for what is a user's, and what is a device's (None: nothing is)."""

    table: str
    of_user: LiteralString
    of_device: LiteralString | None = None


class Rows(NamedTuple):
    """A table with rows by device and time; `owner` is SQL: a column, or a fixed user.

    Devices are there by their own ids, or `qualified` as in alerts, with the domain's name before them.
    """

    relation: str
    time: str
    owner: str
    source: str
    qualified: bool = False


_USER: LiteralString = "user_id = %(user)s"
_DEVICE: LiteralString = "user_id = %(user)s AND device_id = %(device)s"

# Removed first: all that lets the user send or do something new. An account that may log in keeps a
# device from being erased, so the accounts that are left may not.
ACCESS = (
    Part(
        "mqtt_acl",
        "username IN (SELECT username FROM mqtt_users WHERE user_id = %(user)s)",
        "username IN (SELECT username FROM mqtt_users"
        " WHERE kind = 'device' AND user_id = %(user)s AND device_id = %(source)s)",
    ),
    Part("mqtt_users", _USER, "kind = 'device' AND user_id = %(user)s AND device_id = %(source)s"),
    Part("web_tokens", _USER),
)
DELIVERIES = Part(
    "channel_deliveries",
    "channel_id IN (SELECT id FROM channels WHERE user_id = %(user)s)",
    "device_id = %(device)s AND channel_id IN (SELECT id FROM channels WHERE user_id = %(user)s)",
)
# In this order: the removal of what is above adds to what is below, or takes it along in one long statement.
SETTINGS = (
    DELIVERIES,
    Part("channel_states", "channel_id IN (SELECT id FROM channels WHERE user_id = %(user)s)"),
    Part("channels", _USER),
    Part("channel_users", _USER),
    Part("quiet_windows", _USER, _DEVICE),
    Part(
        "device_groups",
        _USER,
        # A group has devices by their own ids: one of another domain may have the same.
        "user_id = %(user)s AND device_id = %(source)s AND NOT EXISTS (SELECT FROM devices AS other"
        " WHERE other.user_id = %(user)s AND other.device_id <> %(device)s"
        " AND (other.device_id = %(source)s OR other.device_id LIKE '%%/' || %(pattern)s))",
    ),
    Part("device_group_versions", _USER),
    Part("user_configs", _USER),
    Part("rule_versions", _USER),
)
# When the alerts are over and the changes of them are written, which also adds deliveries.
ALERTS = (DELIVERIES, Part("active_alerts", _USER, _DEVICE), Part("alert_history", _USER, _DEVICE))
# Last: until then `sluice devices` shows the device.
REGISTRY = (Part("device_days", _USER, _DEVICE), Part("devices", _USER, _DEVICE))
HOURLY = Rows("rollups_hourly", "hour", "user_id", "device_id", qualified=True)
DAILY = Part("rollups_daily", _USER, _DEVICE)
# Marks name the devices of rows that came late. Without the names the hour is made again for all.
MARKS = Part(
    "rollup_marks",
    "%(user)s = ANY (users)",
    "domain = %(domain)s AND EXISTS (SELECT FROM unnest(users, devices) AS named (user_id, device_id)"
    " WHERE named.user_id = %(user)s AND named.device_id = %(source)s)",
)

# Tables of the schema `public`; every table is here or above, or has a domain's rows.
KEPT = {
    "operator_audit": "who changed what is kept, with the names of accounts, users and devices",
    "replays": "has the arguments and counts of replays; those of one user's dead letters name the user",
    "replayed_letters": "has places in Kafka, no names",
    "alert_delivery": "has positions and the name of a Redis server's memory, no names of users",
    "device_positions": "has positions, no names",
    "kafka_topics": "has topics, no names",
    "retention": "has the tables of domains, no names but that of a domain's fixed owner",
    "rollup_progress": "has domains, no names",
    "sluice_migrations": "has migrations, no names",
    "web_logouts": "has ids of sessions, no names, until these would have ended",
}

_DOMAINS = """
SELECT relation, time_column, owner, source_column FROM retention
WHERE domain IS NOT NULL AND to_regclass(quote_ident(relation)) IS NOT NULL
    AND (%(domain)s = '' OR domain = %(domain)s)
ORDER BY relation
"""


def domain_rows(connection: Connection, target: Target) -> list[Rows]:
    """The tables of all domains that there are, or of the device's alone. Raises `psycopg.Error`."""
    found = connection.execute(_DOMAINS, {"domain": target.domain}).fetchall()
    return [Rows(str(table), str(time), str(owner), str(source)) for table, time, owner, source in found]


def values(target: Target) -> dict[str, str | None]:
    """The parameters of the conditions."""
    escaped = target.source_id.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return {
        "user": target.user_id,
        "device": target.device_id,
        "source": target.source_id,
        "pattern": escaped,
        "domain": target.domain,
    }


def condition(part: Part, target: Target) -> sql.SQL | None:
    """The rows of the target in the table; None if it has none of a device."""
    text = part.of_user if target.device_id is None else part.of_device
    return None if text is None else sql.SQL(text)
