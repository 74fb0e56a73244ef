"""`python -m ingest.cli.rules_page > docs/rules.md`."""

import sys

from ingest.cli.rules_page import alerts, rules


def markdown() -> str:
    """The page."""
    return "\n".join(
        [
            *(*rules.rules(), *rules.groups(), *rules.examples()),
            *(*alerts.alerts(), *alerts.commands(), *alerts.answers()),
            *(*alerts.retained_states(), *alerts.reading_back()),
            *(*rules.by_operators(), *rules.for_everyone()),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(markdown())
