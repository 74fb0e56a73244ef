"""Handing a batch on through Redis: the bridge's parts to `process`, the rows of `process` to `store`."""

from tasks.batch import messages as packing
from tasks.batch.lease import LeaseLost
from tasks.batch.messages import KEEP_SECONDS, Part, Row
from tasks.servers.redis_client import activity_key, client, part_key, rows_key


def load_part(batch: str, part: int) -> Part:
    """The part as the bridge sent it. Raises `LeaseLost` when Redis no longer has it."""
    blob = client().get(part_key(batch, part))
    if not isinstance(blob, bytes):
        raise LeaseLost(batch)
    return packing.unpack_part(blob)


def keep_rows(batch: str, part: int, rows: list[Row], activity: bytes) -> None:
    """Keeps the part's rows for `load_rows`, and the activity of its devices for the end of the batch."""
    commands = client().pipeline(transaction=False)
    commands.set(rows_key(batch, part), packing.pack_rows(rows), ex=KEEP_SECONDS)
    # Also when it is empty: an earlier run of this part may have left its own.
    commands.set(activity_key(batch, part), activity, ex=KEEP_SECONDS)
    commands.execute()


def load_rows(batch: str, parts: int) -> list[Row]:
    """The rows of all parts. Raises `LeaseLost` when those of a part are missing in Redis."""
    blobs = client().mget([rows_key(batch, part) for part in range(parts)])
    packed = [blob for blob in blobs if isinstance(blob, bytes)]
    if len(packed) != parts:
        raise LeaseLost(batch)
    return [row for blob in packed for row in packing.unpack_rows(blob)]
