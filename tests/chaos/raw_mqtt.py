"""MQTT 5 packets as bytes, for what no client library sends, and what the broker says to them."""

import socket
from collections.abc import Mapping

CONNACK, PUBACK, DISCONNECT = 0x20, 0x40, 0xE0
REFUSED = 0x80
SECONDS = 60.0


def connect(client_id: bytes, username: bytes, password: bytes, *, clean: bool = True) -> bytes:
    """CONNECT with a login."""
    flags = 0xC0 | (0x02 if clean else 0)
    head = b"\x00\x04MQTT\x05" + bytes([flags]) + b"\x00\x3c\x00"
    return _packet(0x10, head + _text(client_id) + _text(username) + _text(password))


def publish(topic: bytes, payload: bytes) -> bytes:
    """PUBLISH with QoS 1."""
    return _packet(0x32, _text(topic) + b"\x00\x01\x00" + payload)


class Raw:
    """One connection to the broker."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment["MQTT_HOST"], int(environment["MQTT_PORT"])
        self._socket = socket.create_connection(address, timeout=SECONDS)

    def ask(self, packet: bytes) -> bool:
        """Whether the broker grants what the packet asks for: refused is a reason of 0x80 on, or the end.

        Raises `TimeoutError` when it says nothing.
        """
        try:
            self._socket.sendall(packet)
            kind, body = self._read()
        except (ConnectionError, EOFError):
            return False
        if kind == CONNACK:
            return body[1] < REFUSED
        return kind == PUBACK and (len(body) < 3 or body[2] < REFUSED)

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        kind = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return kind & 0xF0, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _packet(first: int, body: bytes) -> bytes:
    length, number = b"", len(body)
    while True:
        number, byte = number >> 7, number & 0x7F
        length += bytes([byte | (0x80 if number else 0)])
        if not number:
            return bytes([first]) + length + body
