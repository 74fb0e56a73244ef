"""Generated passwords, each made once and kept in a file that only its owner reads."""

import secrets

from compose.local.envfile import write_private
from compose.local.layout import Layout


def password(layout: Layout, name: str) -> str:
    """The password called `name`: the one kept, or a new one of 256 bits, URL-safe."""
    path = layout.secret(name)
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text()
