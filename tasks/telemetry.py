"""The telemetry: declared here once; its validation, table, columns and COPY text follow from it.

Another domain is another file like this one, and its migration.
"""

from typing import NamedTuple

from tasks import record
from tasks.payload import Limits, Refused
from tasks.record import Bigint, Declaration, Double, Fields
from tasks.settings import settings

__all__ = [
    "COLUMNS",
    "COPY",
    "COPY_STAGED",
    "INSERT_STAGED",
    "PRIMARY_KEY",
    "STAGE",
    "TABLE",
    "TELEMETRY",
    "Limits",
    "Reading",
    "Refused",
    "Source",
    "Telemetry",
    "limits",
    "parse_topic",
    "validate",
]


class Source(NamedTuple):
    """The device that a message comes from, and whose it is, by its topic."""

    user_id: str
    device_id: str


class Telemetry(Fields):
    """What a device sends, besides whatever it likes, which goes to `extra_data`.

    `time` is inherited: ISO 8601 with a UTC offset, kept to the microsecond. Null for an optional field
    means absent.
    """

    sequence_id: Bigint
    temperature: Double | None = None
    battery: Double | None = None


Reading = record.Reading[Source, Telemetry]

TELEMETRY = Declaration(
    Telemetry,
    Source,
    topic="users/{user_id}/devices/{device_id}/telemetry",
    table="raw_telemetry",
    primary_key=("time", "user_id", "device_id", "sequence_id"),
)

parse_topic = TELEMETRY.parse_topic
validate = TELEMETRY.validate

TABLE = TELEMETRY.table
COLUMNS = TELEMETRY.columns
PRIMARY_KEY = TELEMETRY.primary_key
COPY = TELEMETRY.copy
STAGE = TELEMETRY.stage
COPY_STAGED = TELEMETRY.copy_staged
INSERT_STAGED = TELEMETRY.insert_staged


def limits() -> Limits:
    """The limits of a payload that this process is configured with."""
    chosen = settings()
    return Limits(chosen.payload_max_bytes, chosen.payload_max_depth)
