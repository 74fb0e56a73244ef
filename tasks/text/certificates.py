"""When a certificate ends: the one field of X.509 that its owner must not forget."""

from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
# Before the validity: serial number, algorithm of the signature, issuer.
_SKIPPED = 3


class InvalidCertificate(ValueError):
    """The bytes are not an X.509 certificate."""


def ends_at(der: bytes) -> float:
    """The end of a DER-encoded certificate's validity, in Unix seconds. Raises `InvalidCertificate`.

    It is read without a look at the signature, so also from a certificate that is not trusted or has ended.
    """
    try:
        body = _content(_content(der, _SEQUENCE), _SEQUENCE)
        if body[0] == _VERSION:
            _, body = _split(body)
        for _ in range(_SKIPPED):
            _, body = _split(body)
        _, rest = _split(_content(body, _SEQUENCE))
        return _time(rest[0], _content(rest, rest[0]).decode("ascii"))
    except (IndexError, ValueError, OverflowError) as error:
        raise InvalidCertificate("not an X.509 certificate") from error


def _time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        # RFC 5280: two digits are a year from 1950 to 2049.
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(tag)
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _content(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise ValueError(data[0])
    begin, end = _bounds(data)
    return data[begin:end]


def _split(data: bytes) -> tuple[bytes, bytes]:
    _, end = _bounds(data)
    return data[:end], data[end:]


def _bounds(data: bytes) -> tuple[int, int]:
    """Where the content of the first element begins and ends."""
    length, begin = data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin], "big")
    if begin + length > len(data):
        raise ValueError(length)
    return begin, begin + length
