#!/usr/bin/python3
"""Stands in for curl and wget in health checks: 0 when the last argument, an address, answers with 200."""

import sys
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[-1], timeout=4) as answer:  # noqa: S310 - the health check's address
        answer.read()
except OSError as error:
    sys.exit(str(error))
