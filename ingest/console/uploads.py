"""Forms with a file, as browsers send them: `multipart/form-data` of the HTML standard."""

import re
from typing import Annotated, NamedTuple

from fastapi import Depends, Request

from ingest.api.inputs import Body
from ingest.api.problems import Refused
from ingest.console import guard
from ingest.console.guard import MOST_FIELDS, NO_FORM, Operating

_BOUNDARY = re.compile(
    r'multipart/form-data;(?:.*;)?\s*boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', re.IGNORECASE
)
# The standard has every name in quotes, and a quote in a name as %22.
_NAME = re.compile(rb'content-disposition: *form-data *;(?:[^\r\n]*;)? *name="([^"\r\n]*)"', re.IGNORECASE)
_FILE = re.compile(rb"; *filename\*?=", re.IGNORECASE)
MOST_HEAD_BYTES = 2000


class Upload(NamedTuple):
    """The fields of a form, and the bytes of its file if one was chosen."""

    fields: dict[str, str]
    file: bytes


def parse(content_type: str, body: bytes) -> Upload:
    """The fields and the file of a form. Raises `ValueError` for what no browser sends."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise ValueError("has no boundary")
    mark = b"\r\n--" + found[1].encode()
    pieces = (b"\r\n" + body).split(mark, MOST_FIELDS + 1)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("has too many parts, or is cut off")
    fields: dict[str, str] = {}
    file = b""
    for piece in pieces[1:-1]:
        head, end, value = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head[:MOST_HEAD_BYTES])
        if not end or name is None:
            raise ValueError("has a part without a name")
        if _FILE.search(head[:MOST_HEAD_BYTES]):
            file = value
        else:
            fields[name[1].decode()] = value.decode()
    return Upload(guard.texts(fields), file)


def _uploaded(request: Request, visitor: Operating, body: Body) -> Upload:
    content_type = request.headers.get("content-type", "")
    try:
        with_file = content_type.lower().startswith("multipart/")
        sent = parse(content_type, body) if with_file else Upload(guard.decoded(body), b"")
    except ValueError:
        raise Refused(422, NO_FORM) from None
    return sent._replace(fields=guard.sent_from_here(request, visitor, sent.fields))


Uploaded = Annotated[Upload, Depends(_uploaded)]
"""A form with a file that a page of this session has sent, of the operator."""
