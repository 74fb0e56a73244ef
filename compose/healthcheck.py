"""The health check of a container: asks the process in it, at HEALTH_URL, whether it is well."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

_SECONDS = 4


def fault(environ: Mapping[str, str]) -> str:
    """The problem, or nothing when the process answers that it is well."""
    url = environ.get("HEALTH_URL", "http://127.0.0.1:9000/healthz")
    if not url.startswith("http://127.0.0.1:"):
        return f"HEALTH_URL must be of this container, not {url}"
    try:
        urllib.request.urlopen(url, timeout=_SECONDS).close()  # noqa: S310 - the scheme is checked above
    except urllib.error.HTTPError as error:
        return error.read(300).decode(errors="replace")
    except OSError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    if trouble := fault(os.environ):
        sys.exit(trouble)
