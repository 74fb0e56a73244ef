"""Arguments that several commands take, and what they mean."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.admin.errors import OperatorError

if TYPE_CHECKING:
    from tasks.domain.domain import AnyDomain

Domain = Annotated[str | None, typer.Option(help="The domain; by default the first of DOMAINS.")]


def domain_named(name: str | None) -> "AnyDomain":
    """The domain of `--domain`. Raises `OperatorError` if it is not in DOMAINS."""
    from ingest.admin.rulesets.rules import domain_named  # noqa: PLC0415

    return domain_named(name)


def moment(option: str, text: str) -> datetime:
    """The time that an option names, such as `90m` ago. Raises `OperatorError` for what is not a time."""
    from tasks.text.times import parse_moment  # noqa: PLC0415

    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise OperatorError(f"{option} {error}.") from None
