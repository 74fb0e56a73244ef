"""The Things Stack v3: an uplink of LoRaWAN; members that are empty, 0 or false are left out."""

from typing import Any

from tasks.domain import Bigint, Domain, Double, Form, Record, Time, TopicLevel, When, at, pick


class Uplink(Record):
    """`v3/farm@ttn/devices/barn-03/up`, with what the payload formatter made of it in columns."""

    device: TopicLevel
    time: Time | None = None
    sequence_id: Bigint = at("sequence_id", default=0)  # starts again when the device joins
    temperature: Double | None = at("temperature", keep_others=True)
    humidity: Double | None = at("humidity", keep_others=True)
    battery: Double | None = at("battery", keep_others=True)


def unpack(event: Any, _names: Any) -> list[Any]:
    """The decoded payload, else the bytes as they came; an uplink with neither is not a reading."""
    uplink = event["uplink_message"]
    decoded, raw = uplink.get("decoded_payload"), uplink.get("frm_payload")
    if not decoded and not raw:
        return []
    own = decoded if isinstance(decoded, dict) else {"frm_payload": raw, "decoded_payload": decoded}
    also = {"rssi": pick(uplink, "rx_metadata.0.rssi"), "snr": pick(uplink, "rx_metadata.0.snr")}
    also |= {"dev_eui": pick(event, "end_device_ids.dev_eui"), "f_port": uplink.get("f_port")}
    return [{**own, **also, "sequence_id": uplink.get("f_cnt"), "received_at": event["received_at"]}]


FORM = Form(unpack=unpack, times=(When("received_at"),), numbers="text")
# fmt: off
DOMAIN = Domain(Uplink, name="things_stack", topic="v3/{_application}/devices/{device}/up", owner="farm",
                source="{device}", account="things_stack", table="raw_things_stack",
                primary_key=("time", "device", "sequence_id"), form=FORM)
