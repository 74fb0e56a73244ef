"""How much a benchmark measures."""

from typing import NamedTuple


class Size(NamedTuple):
    """As the options of the same names say."""

    records: int
    devices: tuple[int, int]
    pairs: int
    seconds: int
    rules: bool
