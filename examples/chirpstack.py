"""ChirpStack v4: an uplink of LoRaWAN, decoded by a codec or not at all."""

from typing import Any

from tasks.domain import Bigint, Domain, Double, Form, Record, Time, TopicLevel, When, at, pick


class Uplink(Record):
    """`application/5b1f…/device/24e124136b502217/event/up`, with what the codec made of it in columns."""

    device: TopicLevel
    time: Time | None = None
    sequence_id: Bigint = at("sequence_id", default=0)  # starts again when the device joins
    temperature: Double | None = at("temperature", keep_others=True)
    humidity: Double | None = at("humidity", keep_others=True)
    battery: Double | None = at("battery", keep_others=True)


def unpack(event: Any, _names: Any) -> list[Any]:
    """The decoded object, else the bytes as they came; an uplink with neither is not a reading."""
    decoded, raw = event.get("object"), event.get("data")
    if not decoded and not raw:
        return []
    own = decoded if isinstance(decoded, dict) else {"data": raw, "object": decoded}
    also = {"rssi": pick(event, "rxInfo.0.rssi"), "snr": pick(event, "rxInfo.0.snr")}
    also |= {"deviceName": event["deviceInfo"].get("deviceName"), "fPort": event.get("fPort")}
    return [{**own, **also, "sequence_id": event.get("fCnt"), "received": event.get("time")}]


DOMAIN = Domain(
    Uplink,
    name="chirpstack",
    topic="application/{_application}/device/{device}/event/up",
    owner="farm",
    source="{device}",
    account="chirpstack",  # the server publishes for all devices
    table="raw_chirpstack",
    primary_key=("time", "device", "sequence_id"),
    form=Form(unpack=unpack, times=(When("received"),), numbers="text"),
)
