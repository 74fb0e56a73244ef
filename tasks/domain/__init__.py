"""Domains: the form of their messages. Modules that declare a domain import from here."""

from tasks.domain.columns import (
    Bigint,
    Boolean,
    Double,
    Geometry,
    GeoPoint,
    Integer,
    Json,
    Numeric,
    Point,
    Text,
    Time,
    TopicLevel,
    Uuid,
    sql,
)
from tasks.domain.declaration import Record
from tasks.domain.domain import Domain
from tasks.rules.rule import Alert

__all__ = [
    "Alert",
    "Bigint",
    "Boolean",
    "Domain",
    "Double",
    "GeoPoint",
    "Geometry",
    "Integer",
    "Json",
    "Numeric",
    "Point",
    "Record",
    "Text",
    "Time",
    "TopicLevel",
    "Uuid",
    "sql",
]
