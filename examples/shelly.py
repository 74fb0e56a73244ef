"""Shelly: bare values of the first generation, JSON by component of the later ones; seldom a time."""

from typing import Any

from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, When, at, scalar

SERVICES = {"sys", "wifi", "mqtt", "ws", "cloud", "ble", "eth", "ota"}


class Status(Record):
    """`shellyplus1pm-a1b2/status/switch:0`: `{"id": 0, "apower": 47.3, "temperature": {"tC": 41.2}}`."""

    device: TopicLevel
    time: Time | None = None
    apower: Double | None = at("apower", "power", keep_others=True)
    voltage: Double | None = at("voltage", keep_others=True)
    temperature: Double | None = at("temperature.tC", "tC", "temperature", keep_others=True)
    reading_id: Fingerprint


def unpack(value: Any, names: Any) -> list[Any]:
    """A reading for each component; `relay/0` is named by its first level, `relay/0/power` by its last."""
    if path := names.get("component"):
        component, _, last = path.rpartition("/")
        name = component if last.isdigit() else last
        return [value if isinstance(value, dict) else {name: scalar(value)}]
    params = value["params"]
    found = [(one["component"], one) for one in params.get("events", [])]
    found += [(key, one) for key, one in params.items() if isinstance(one, dict)]
    return [{"ts": params.get("ts"), **one, "component": key} for key, one in found if key not in SERVICES]


GEN1 = ("shellies/{device}/{component...}", "shellies/shellies/{device}/{component...}")
GEN2 = ("{device...}/events/{_rpc:rpc}", "{device...}/status/{component}")
OFF = "shellies/{_d}/{_what:online|announce|command|info}"
SILENT = (OFF, "shellies/{_what}", "{_d...}/status/{_what:sys|wifi|mqtt|ws|cloud|ble|eth|ota}")
FORM = Form(("text",), (When("ts", "s"),), Clock(outside="arrival"), unpack=unpack, ignored=SILENT)
# fmt: off
DOMAIN = Domain(Status, name="shelly", topic=GEN1 + GEN2, owner="home", source="{device}", account="shelly",
                table="raw_shelly", primary_key=("time", "device", "reading_id"), form=FORM)
