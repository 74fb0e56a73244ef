"""The names of a domain's table in SQL, for `psycopg.sql`."""

from psycopg import sql

from tasks.domain.domain import AnyDomain


def names(domain: AnyDomain) -> dict[str, sql.Composable]:
    """What `{table}`, `{owner}`, `{source}` and `{time}` stand for in a statement about its readings.

    A domain with a fixed owner has no column for it: there the owner is a literal.
    """
    return {
        "table": sql.Identifier(domain.table),
        "owner": sql.Identifier(domain.owner) if domain.owner else sql.Literal(domain.user_id),
        "source": sql.Identifier(domain.source),
        "time": sql.Identifier(domain.time),
    }
