"""Domains: the form of their messages. Modules that declare a domain import from here."""

from tasks.domain.codecs import scalar
from tasks.domain.columns import (
    Bigint,
    Boolean,
    Double,
    Fingerprint,
    Geometry,
    GeoPoint,
    Integer,
    Json,
    Numeric,
    Owner,
    Point,
    Text,
    Time,
    TopicLevel,
    Uuid,
    sql,
)
from tasks.domain.domain import Domain
from tasks.domain.form import Form, at
from tasks.domain.moments import Clock, When
from tasks.domain.presence import Presence
from tasks.domain.reader import pick
from tasks.domain.record import Record
from tasks.domain.values import NO_VALUE
from tasks.rules.rule import Alert

__all__ = [
    "NO_VALUE",
    "Alert",
    "Bigint",
    "Boolean",
    "Clock",
    "Domain",
    "Double",
    "Fingerprint",
    "Form",
    "GeoPoint",
    "Geometry",
    "Integer",
    "Json",
    "Numeric",
    "Owner",
    "Point",
    "Presence",
    "Record",
    "Text",
    "Time",
    "TopicLevel",
    "Uuid",
    "When",
    "at",
    "pick",
    "scalar",
    "sql",
]
