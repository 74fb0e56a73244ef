"""A tenant's view of dead letters."""

from ingest.api.callers import Caller
from ingest.api.routes import dead_letters


def test_a_tenant_does_not_learn_where_the_database_is() -> None:
    """The operator reads the reason, a tenant only that it does not answer; with an answer there is none."""
    away = 'The database at 10.0.0.5:5432 does not accept the connection: no role "sluice_web".'
    tenants = dead_letters._note(Caller("ada"), away)
    assert tenants == "The database could not be asked which were replayed, so all count as open."
    assert away in str(dead_letters._note(Caller(None), away))
    assert dead_letters._note(Caller("ada"), "") is None
