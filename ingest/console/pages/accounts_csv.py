"""The accounts of a CSV file: first what becomes of each line, then made, and their passwords as a file."""

import csv
import io
from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ingest.admin.accounts import accounts_csv, provision
from ingest.admin.accounts.accounts import Account
from ingest.api.inputs import Database
from ingest.api.problems import Refused
from ingest.api.routes import accounts as work
from ingest.console import render
from ingest.console.guard import Operating
from ingest.console.uploads import Uploaded

# A file that was looked at is sent once more to make its accounts, and has to fit into a request then.
MOST_ACCOUNTS = 10_000
MOST_BYTES = 1_500_000
MOST_SHOWN = 500
_ELSEWHERE = "Split it, or use `sluice provision csv` or `POST /api/v1/accounts/csv`."
_HEADERS = render.HEADERS | {"content-disposition": 'attachment; filename="sluice-accounts.csv"'}

router = APIRouter()


@router.post("/accounts/csv")
def look(request: Request, _: Operating, database: Database, given: Uploaded) -> Response:
    """Shows what would become of each line of the file, or the file's faults; nothing is made."""
    try:
        wanted = _read(given.file)
    except (accounts_csv.InvalidCsv, Refused) as error:
        said, *faults = str(error).split("\n")
        return render.page("csv_faults.html", request, status=422, said=said, faults=faults)
    with database.reading() as connection:
        there = provision.present(connection, wanted)
    return render.page(
        "csv.html",
        request,
        lines=[(one, one.username in there) for one in wanted[:MOST_SHOWN]],
        more=max(0, len(wanted) - MOST_SHOWN),
        new=len(wanted) - len(there),
        there=len(there),
        document=_document(wanted),
    )


@router.post("/accounts/csv/make")
def make(visitor: Operating, database: Database, given: Uploaded) -> Response:
    """Makes the accounts, all or none, and answers with their passwords, this once, as a file."""
    wanted = _read(given.fields.get("document", "").encode())
    done = work.make_all(visitor.caller, database, wanted, rotate=bool(given.fields.get("rotate")))
    if not done.made:
        raise Refused(409, "All of these accounts are there already, and keep their passwords.")
    passwords = io.StringIO()
    accounts_csv.write(passwords, done.made)
    return Response(passwords.getvalue(), headers=_HEADERS, media_type="text/csv; charset=utf-8")


def _read(document: bytes) -> list[Account]:
    if len(document) > MOST_BYTES:
        raise Refused(422, f"The file has more than {MOST_BYTES:,} bytes. {_ELSEWHERE}")
    wanted = work.named(document)
    if len(wanted) > MOST_ACCOUNTS:
        raise Refused(422, f"The file has more than {MOST_ACCOUNTS:,} accounts. {_ELSEWHERE}")
    return wanted


def _document(wanted: Iterable[Account]) -> str:
    """The accounts as a file that `_read` reads as the same."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("user", "device"))
    rows.writerows((one.user_id, one.device_id or "") for one in wanted)
    return text.getvalue()
