"""The encoding that bytes look like, where JSON was expected: for the reason of a refusal. Pure."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x5e", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xd9\xd9\xf7", "CBOR"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_CONTROLS = frozenset({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0D})
BOM = b"\xef\xbb\xbf"


def is_compressed(payload: bytes) -> bool:
    """Whether the bytes begin as gzip or zlib do."""
    return looks_like(payload) in {"gzip", "zlib"}


def looks_like(payload: bytes) -> str:
    """The name of the encoding that the bytes begin like; empty if they look like none."""
    for magic, name in _MAGIC:
        if payload.startswith(magic):
            return name
    if len(payload) < 2:
        return ""
    first, second = payload[0], payload[1]
    if (0xA1 <= first <= 0xB7 or first == 0xBF) and second >> 5 in {0, 3}:
        return "CBOR"
    if (0x81 <= first <= 0x8F or first in {0xDE, 0xDF}) and (
        first >= 0xDE or 0xA0 <= second <= 0xBF or second in {0xD9, 0xDA}
    ):
        return "MessagePack"
    # The first field has the number 1, and is a text or an integer. Plain text has no control characters.
    begins = first == 0x08 or (first == 0x0A and 2 + second <= len(payload))
    return "Protobuf" if begins and not _CONTROLS.isdisjoint(payload[:256]) else ""


def hint(payload: bytes) -> str:
    """The likely cause, to put behind a reason; empty without a guess."""
    if payload.startswith(BOM):
        return "; it begins with a byte order mark (EF BB BF), which must be left out"
    if name := looks_like(payload):
        return f"; it looks like {name}"
    if payload.endswith(b"\0") and payload.rstrip(b"\0"):
        return "; a NUL byte follows it (the end of a C string), which must not be sent"
    return ""
