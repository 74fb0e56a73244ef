"""Tasmota: sensors nested by their chip, and a local time without a zone, which is 1970 before NTP."""

from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, When, at

ZONE = "UTC"  # the zone that the devices are set to, such as Europe/Berlin


class Telemetry(Record):
    """`tele/tasmota_4F1A2B/SENSOR`: `{"Time": "2026-11-20T10:00:00", "BME280": {"Temperature": 18.7}}`."""

    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = at("BME280.Temperature", "DS18B20.Temperature", "AM2301.Temperature")
    humidity: Double | None = at("BME280.Humidity", "AM2301.Humidity")
    pressure: Double | None = at("BME280.Pressure")
    power: Double | None = at("ENERGY.Power", keep_others=True)  # an array on three phases
    reading_id: Fingerprint


DOMAIN = Domain(
    Telemetry,
    name="tasmota",
    topic=("tele/{device...}/{kind:SENSOR|STATE}", "{device}/tele/{kind:SENSOR|STATE}"),
    owner="home",
    source="{device}",
    account="tasmota",  # all devices share it
    table="raw_tasmota",
    primary_key=("time", "device", "reading_id"),
    form=Form(
        times=(When("Epoch", "s"), When("Time", "iso", "epoch", zone=ZONE)),
        clock=Clock(outside="arrival"),
        numbers="text",
        ignored=("tele/{_device...}/{_what}", "{_device}/tele/{_what}"),
    ),
)
