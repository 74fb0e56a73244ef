"""Forms with a file, as browsers send them: `multipart/form-data` of the HTML standard."""

import io
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from python_multipart.multipart import Field, File, create_form_parser

from ingest.api.around import MOST_BODY_BYTES
from ingest.api.inputs import Body
from ingest.api.problems import Refused
from ingest.console import guard
from ingest.console.guard import MOST_FIELDS, NO_FORM, Operating

# A body is in memory already, and bounded: no file is written.
_LIMITS = {"MAX_MEMORY_FILE_SIZE": MOST_BODY_BYTES}


class Upload(NamedTuple):
    """The fields of a form, and the bytes of its file if one was chosen."""

    fields: dict[str, str]
    file: bytes


def parse(content_type: str, body: bytes) -> Upload:
    """The fields and the file of a form. Raises `ValueError` for what no browser sends."""
    fields: dict[str, str] = {}
    file = io.BytesIO()
    ended: list[bool] = []

    def on_field(field: Field) -> None:
        if field.field_name is None:
            raise ValueError("has a part without a name")
        fields[field.field_name.decode()] = (field.value or b"").decode()
        if len(fields) > MOST_FIELDS:
            raise ValueError("has too many fields")

    def on_file(part: File) -> None:
        part.file_object.seek(0)
        file.write(part.file_object.read())

    parser = create_form_parser({"Content-Type": content_type.encode()}, on_field, on_file, _LIMITS)
    parser.on_end = lambda: ended.append(True)
    parser.write(body)
    parser.finalize()
    if not ended:
        raise ValueError("is cut off")
    return Upload(guard.texts(fields), file.getvalue())


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
