"""ThingsBoard's topics: values alone, with a time, or arrays of them; a gateway sends for many devices."""

from typing import Any

from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Record, Text, Time, When, at

LOGIN = "me"  # the device of `v1/devices/me/telemetry`, unless the topic begins with its name


class Telemetry(Record):
    """`v1/gateway/telemetry`: `{"Meter 12": [{"ts": 1795165200000, "values": {"power": 812.5}}]}`."""

    time: Time | None = None
    device: Text
    power: Double | None = at(keep_others=True)
    temperature: Double | None = at(keep_others=True)
    humidity: Double | None = at(keep_others=True)
    reading_id: Fingerprint


def unpack(payload: Any, names: Any) -> list[Any]:
    """A reading for each entry."""
    devices = payload if "_gateway" in names else {names.get("_login", LOGIN): payload}
    found = []
    for device, entries in devices.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            timed = isinstance(entry.get("values"), dict)
            values = entry["values"] if timed else entry
            if values:
                found.append({**values, "ts": entry.get("ts") if timed else None, "device": device})
    return found


ONE = ("{_login}/v1/devices/me/telemetry", "v1/devices/me/telemetry", "v2/t")
FORM = Form(unpack=unpack, times=(When("ts", "epoch"),), clock=Clock(outside="arrival"), numbers="text")
# fmt: off
DOMAIN = Domain(Telemetry, name="thingsboard", topic=(*ONE, "v1/{_gateway:gateway}/telemetry"), owner="home",
                source="{device}", account="thingsboard", table="raw_thingsboard",
                primary_key=("time", "device", "reading_id"), form=FORM)
