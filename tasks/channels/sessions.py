"""The HTTP of Apprise's services while a thread is guarded: straight to the address, and bounded.

Its services call `requests`. Left alone, it would use a proxy of the environment, so that only the proxy's
address could be judged, take logins from a file `.netrc`, and read answers of any length.
"""

import os
from functools import lru_cache
from typing import Any

from tasks.channels import guard

# A service's answer to a message is short.
MOST_BYTES = 1_000_000
_PIECE_BYTES = 65_536


@lru_cache
def install() -> None:
    """From now on sessions of `requests` heed this in guarded threads; those of others stay as they are."""
    import requests  # noqa: PLC0415 - it comes with Apprise, and is needed nowhere else

    class Session(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            if guard.is_active():
                self.trust_env = False
                self.hooks["response"].append(_read)

        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            if verify is True and not self.trust_env:
                # Whom the operator trusts stays.
                verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
            return super().merge_environment_settings(url, proxies, stream, verify, cert)

    # `requests.post` makes its session of it.
    requests.sessions.Session = Session  # type: ignore[misc]


def _read(response: Any, **_: Any) -> None:
    """Reads the answer, before `requests` does. Raises `ConnectionError` if it is too long."""
    content = bytearray()
    for piece in response.iter_content(_PIECE_BYTES):
        content += piece
        if len(content) > MOST_BYTES:
            response.close()
            raise ConnectionError("the answer is too long")
    # There is no other way to hand on what was read.
    response._content = bytes(content)
