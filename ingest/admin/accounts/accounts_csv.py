"""Accounts of many devices at once, from a CSV file: all of them or none."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from ingest.admin.accounts import accounts
from ingest.admin.accounts.accounts import Account, InvalidId
from ingest.admin.accounts.provision import Credential, present, provision_all
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection

MOST_ACCOUNTS = 100_000
MOST_FAULTS = 20
# Written by one statement; then the progress is reported.
AT_ONCE = 1000

Progress = Callable[[str, int, int], None]


class InvalidCsv(OperatorError):
    """The file names no accounts, or some of its lines are wrong."""


class Provisioned(NamedTuple):
    """The accounts of a file: those made, and those `left`, which existed and keep their passwords."""

    made: list[tuple[Account, Credential]]
    left: list[Account]


class Part(NamedTuple):
    """How far it is: `waiting` accounts are still to be made, `left` were there and keep their passwords."""

    made: list[tuple[Account, Credential]]
    left: list[Account]
    waiting: int


def read(lines: Iterable[str]) -> list[Account]:
    """The accounts that a file names, in its order, each once.

    The first line names the columns: `user` and `device`; others do not count. Without a device the line is
    the account of the user's own programs. Raises `InvalidCsv` with every fault, up to 20.
    """
    rows = csv.reader(lines, strict=True)
    found: dict[Account, None] = {}
    faults: list[str] = []
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        if columns and columns[0].startswith("\ufeff"):  # spreadsheets mark UTF-8 by it
            columns[0] = columns[0].removeprefix("\ufeff")
        missing = [name for name in ("user", "device") if columns.count(name) != 1]
        if missing:
            raise InvalidCsv(
                f"The first line must name the columns `user` and `device` once each, as in `user,device`;"
                f" it does not for `{'` and `'.join(missing)}`."
            )
        places = columns.index("user"), columns.index("device")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(columns):
                faults.append(f"line {rows.line_num}: {len(row)} columns, the first line has {len(columns)}")
                continue
            user, device = (row[place].strip() for place in places)
            try:
                found[accounts.device(user, device) if device else accounts.user(user)] = None
            except InvalidId as error:
                faults.append(f"line {rows.line_num}: {error}")
            if len(found) > MOST_ACCOUNTS:
                raise InvalidCsv(f"The file has more than {MOST_ACCOUNTS:,} accounts; split it.")
    except csv.Error as error:
        faults.append(f"line {rows.line_num}: is not CSV: {error}")
    except UnicodeDecodeError:
        raise InvalidCsv(f"The file is not UTF-8, from line {rows.line_num + 1} on.") from None
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise InvalidCsv("No account was made:\n" + "\n".join(faults[:MOST_FAULTS]) + more)
    if not found:
        raise InvalidCsv("The file has no line besides its first, so there is no account to make.")
    return list(found)


def provision(
    connection: Connection, wanted: Sequence[Account], progress: Progress, *, rotate: bool = False
) -> Provisioned:
    """Makes the accounts that are not there, all or none; with `rotate` those that are get new passwords.

    10,000 devices take some seconds. Raises `UsernameTaken`, `TooManyDevices`, `psycopg.Error`.
    """
    with connection.transaction():
        steps = parts(connection, wanted, rotate=rotate)
        done = next(steps)
        for done in steps:
            progress("accounts", len(done.made), len(done.made) + done.waiting)
    return Provisioned(done.made, done.left)


def parts(connection: Connection, wanted: Sequence[Account], *, rotate: bool) -> Iterator[Part]:
    """Makes the accounts part by part, in the caller's transaction; first says what there is to do.

    Each time `made` has all up to then. Raises `UsernameTaken`, `TooManyDevices`, `psycopg.Error`.
    """
    there = present(connection, wanted)
    chosen = [one for one in wanted if rotate or one.username not in there]
    left = [one for one in wanted if not rotate and one.username in there]
    made: list[tuple[Account, Credential]] = []
    yield Part(made, left, len(chosen))
    for begin in range(0, len(chosen), AT_ONCE):
        part = chosen[begin : begin + AT_ONCE]
        made += zip(part, provision_all(connection, part), strict=True)
        yield Part(made, left, len(chosen) - len(made))


def write(file: TextIO, made: Iterable[tuple[Account, Credential]]) -> None:
    """Writes the credentials as CSV: user, device, username, password."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("user", "device", "username", "password"))
    rows.writerows(_rows(made))


def _rows(made: Iterable[tuple[Account, Credential]]) -> Iterator[tuple[str, str, str, str]]:
    for account, credential in made:
        yield account.user_id or "", account.device_id or "", credential.username, credential.password
