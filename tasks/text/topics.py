"""Topics on which Sluice publishes to devices. Pure."""

# The characters that no level of a topic may hold, and the sign that begins an escape.
_ESCAPES = str.maketrans({"%": "%25", "/": "%2F", "+": "%2B", "#": "%23"})


def rejected_topic(user_id: str, device_id: str) -> str:
    """The topic of the notices about refused messages of a device's account: another for each device.

    A device id is one level of it: `%`, `/`, `+` and `#` are escaped.
    """
    return f"users/{user_id}/devices/{device_id.translate(_ESCAPES)}/rejected"
