"""The answers of the routes of devices."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, Field


class Device(BaseModel):
    """A device as the registry has it."""

    user_id: str
    device_id: str = Field(description="With the namespace of its domain before it, if it has one.")
    domain: str
    path: str = Field(description="Where the device is in this API.")
    first_seen: datetime
    last_seen: datetime = Field(description="Arrival of its last message, also of a refused one.")
    own_time: datetime | None = Field(description="The device's own time of the reading that came last.")
    clock_skew_ms: int | None
    refused_at: datetime | None
    refused_type: str | None
    refused_reason: str | None
    online: bool | None = Field(description="As its last will says; null without one.")
    online_at: datetime | None


class ListedDevice(Device):
    """A device in a list, with its counts of today (UTC)."""

    messages_today: int
    dead_letters_today: int


class Devices(BaseModel):
    """A page of devices."""

    devices: list[ListedDevice]
    next: str | None = Field(description="The `cursor` of the next page; null at the end.")
    known: dict[str, list[str]] | None = Field(
        description="Where none matches: by filter the values that there are, the most frequent first;"
        " `last_seen` has the first and the last time."
    )


class Day(BaseModel):
    """The messages of a device on one day (UTC)."""

    day: date
    messages: int
    dead_letters: int


class Latest(Device):
    """A device with its newest reading and its last 30 days."""

    reading: dict[str, Any] | None = Field(description="A row of the domain's table, or null.")
    days: list[Day]


class Point(BaseModel):
    """One bucket."""

    time: datetime = Field(description="Its start.")
    value: float | None
    count: int = Field(description="How many values it has.")


class Series(BaseModel):
    """One field of a device over time. A bucket without a value is left out."""

    user_id: str
    device_id: str
    key: str
    agg: str
    begin: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    bucket_seconds: float
    points: list[Point]
