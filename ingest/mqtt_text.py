"""How the gateway reads the strings in MQTT properties: whatever the broker let through, it takes.

paho's own reading ends the connection at U+FEFF, which the standard allows (MQTT-1.5.4-3). The broker sends
such a message again on every new connection, so that one of them would stop the gateway for good.
"""

import paho.mqtt.properties
from paho.mqtt.exception import MalformedPacket


def read_text(buffer: bytes, available: int) -> tuple[str, int]:
    """The string at the start of the buffer, and how many bytes it takes; what is no UTF-8 is replaced.

    Raises `MalformedPacket` when it is longer than what is available.
    """
    end = 2 + int.from_bytes(buffer[:2])
    if available < 2 or end > available:
        raise MalformedPacket("a string ends beyond its packet")
    return bytes(buffer[2:end]).decode(errors="replace"), end


def install() -> None:
    """Makes every MQTT client of this process read strings this way."""
    paho.mqtt.properties.readUTF = read_text
