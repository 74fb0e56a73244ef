"""Whether a URL with a password in it can be read in one way only.

Otherwise the libraries quote the whole URL in their errors, or take a piece of the password for a host or a
port and name that.
"""

import re
from urllib.parse import urlsplit

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})|%00")
_PLACE = re.compile(r"[A-Za-z0-9._%-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def is_url(text: str) -> bool:
    """Whether the user and the password end where they seem to, and hosts and ports are valid."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    login, _, places = parts.netloc.rpartition("@")
    return (
        "://" in text
        and text.isprintable()
        and " " not in text
        and not _BAD_ESCAPE.search(text)
        and login.count(":") <= 1
        and not set("@[]") & set(login)
        and not any("@" in part for part in (parts.path, parts.query, parts.fragment))
        and all(_PLACE.fullmatch(place) for place in places.split(","))
    )


def is_database(text: str) -> bool:
    """The same for a database, which may also be given as libpq's `key=value` pairs."""
    if "://" in text:
        return is_url(text)
    import psycopg  # noqa: PLC0415 - not every process needs it

    try:
        return bool(psycopg.conninfo.conninfo_to_dict(text))
    except psycopg.ProgrammingError:
        return False
