"""Sparkplug B, made JSON by a gateway: metrics with times of their own, in several spellings."""

from typing import Any

from tasks.domain import Bigint, Clock, Domain, Fingerprint, Form, Record, Time, TopicLevel, When, at


class Metrics(Record):
    """`spBv1.0/Plant1/DDATA/edge-01/press-3`: the metrics of one time, by name, in the extra column."""

    device: TopicLevel  # of N… messages the edge node
    time: Time | None = None
    seq: Bigint | None = at("/seq")
    reading_id: Fingerprint


def unpack(payload: Any, _names: Any) -> list[Any]:
    """A reading for each distinct time."""
    found: dict[Any, dict[str, Any]] = {}
    for metric in payload["metrics"]:
        values = [one for key, one in metric.items() if key == "value" or key.endswith("_value")]
        value = None if metric.get("is_null") or not values else values[0]
        kind = metric.get("dataType") or metric.get("datatype") or metric.get("type")
        if kind in ("Int32", 3) and isinstance(value, int) and value >= 2**31:
            value -= 2**32
        when = metric.get("timestamp", payload.get("timestamp"))
        if isinstance(when, dict):  # a 64-bit number in two halves
            when = when["high"] * 2**32 + when["low"] % 2**32
        found.setdefault(when, {})[metric.get("name") or f"alias {metric['alias']}"] = value
    return [{**metrics, "timestamp": when} for when, metrics in found.items()]


TOPIC = ("spBv1.0/{group}/{_t:NDATA|NBIRTH}/{device}", "spBv1.0/{group}/{_t:DDATA|DBIRTH}/{node}/{device}")
OTHERS = ("spBv1.0/{_group}/{_type:NDEATH|DDEATH|NCMD|DCMD|STATE}/{_rest...}", "spBv1.0/STATE/{_host}")
FORM = Form(unpack=unpack, times=(When("timestamp", "ms"),), clock=Clock(outside="arrival"), ignored=OTHERS)
# fmt: off
DOMAIN = Domain(Metrics, name="sparkplug", topic=TOPIC, owner="plant", source="{device}", account="sparkplug",
                table="raw_sparkplug", primary_key=("time", "device", "reading_id"), form=FORM)
