"""`python -m ingest.cli.rules_page > docs/rules.md`."""

import sys

from ingest.cli.rules_page import alerts, rules
from ingest.cli.rules_page.examples import START, USER
from ingest.cli.rules_page.scenes import scenes


def markdown() -> str:
    """The page."""
    return "\n".join(
        [
            *(*rules.rules(), *rules.groups(), *rules.examples()),
            *scenes(START, USER),
            *(*alerts.alerts(), *alerts.commands(), *alerts.answers()),
            *(*alerts.retained_states(), *alerts.reading_back()),
            *(*rules.by_operators(), *rules.for_everyone()),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(markdown())
