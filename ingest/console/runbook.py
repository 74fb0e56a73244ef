"""The runbook as a page, so that what is wrong leads to what to do, wherever Sluice is installed."""

import re
from functools import cache
from importlib.resources import files

from markdown_it import MarkdownIt
from markupsafe import Markup

# Links to other pages of the docs, which are not here.
_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?!#)[^)]+\)")
_HEADING = re.compile(r"<h2>(.+?)</h2>")


def path(entry: str) -> str:
    """Where the entry of that name is."""
    return f"/runbook#{anchor(entry)}"


def anchor(entry: str) -> str:
    """The name of an entry in a link, as in the docs."""
    return re.sub(r"[^\w-]", "", entry.lower().replace(" ", "-"))


def text() -> str:
    """The runbook, as it was when this was built."""
    return (files("ingest.console") / "runbook.md").read_text()


@cache
def as_html() -> Markup:
    """All entries, each with its anchor; its own first heading is the page's."""
    _, _, entries = _ELSEWHERE.sub(r"\1", text()).partition("\n")
    # Text that is HTML stays text.
    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(entries)
    return Markup(_HEADING.sub(lambda found: f'<h2 id="{anchor(found[1])}">{found[1]}</h2>', made))  # noqa: S704 - made of our own text, without HTML
