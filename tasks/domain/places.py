"""The place of a reading: its record's offset, with its index where a message may hold several. Pure.

A domain without a form has one reading in each message, and the offset is the place. With a form the place
has the index in its lowest bits, so that places are in the order of the readings, and are one number as an
offset is. A domain that has alerts must keep its form: without it, its places would begin again far below.
"""

from tasks.domain.form import MOST_READINGS

# Ten bits leave 38 for the offset, below those of the epoch: 2^38 records in one partition.
_BITS = MOST_READINGS.bit_length()


def place(offset: int, index: int) -> int:
    """The place of a reading of a domain with a form, by its record's offset and its index in the message."""
    return (offset << _BITS) + index


def offset_of(number: int, *, formed: bool) -> int:
    """The offset of the record that a place is in."""
    return number >> _BITS if formed else number


def index_of(number: int, *, formed: bool) -> int:
    """The index in its message of the reading at a place."""
    return number & ((1 << _BITS) - 1) if formed else 0
