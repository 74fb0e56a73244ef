"""A table that a run writes into a page of the docs."""

from pathlib import Path


def write(page: Path, name: str, text: str) -> None:
    """Replaces what is between the page's marks of this name. Raises `ValueError` when it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no lines {begin} and {end} between which the table goes")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
