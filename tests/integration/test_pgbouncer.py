"""Workers reach the database through PgBouncer in transaction mode, and lose nothing by it."""

import psycopg

from compose.local.stack import Stack
from tests.integration.fleet import wait_until


def test_more_clients_than_connections_are_served(stack: Stack) -> None:
    """Forty clients share at most twenty connections of the server."""
    assert f":{stack.env['PGBOUNCER_PORT']}/" in stack.env["DATABASE_URL"]
    clients = [psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) for _ in range(40)]
    backends = {client.execute("SELECT pg_backend_pid()").fetchall()[0][0] for client in clients}
    for client in clients:
        client.close()
    assert 1 <= len(backends) <= 20


def test_what_a_transaction_needs_works(stack: Stack) -> None:
    """COPY, a temporary table for one transaction, SET LOCAL, and a prepared statement of the driver."""
    with psycopg.connect(stack.env["DATABASE_URL"], prepare_threshold=0) as client, client.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '5s'")
        cursor.execute("CREATE TEMPORARY TABLE pooled (number int) ON COMMIT DROP")
        with cursor.copy("COPY pooled FROM STDIN") as copy:
            copy.write(b"1\n2\n")
        for _ in range(3):
            assert cursor.execute("SELECT sum(number) FROM pooled WHERE number > %s", [0]).fetchone() == (3,)


def test_the_database_returns_through_it(stack: Stack) -> None:
    """After a restart of the server PgBouncer serves again within seconds, without being restarted."""
    pooled = stack.pid("pgbouncer")
    stack.restart("postgres")

    def answers() -> bool:
        try:
            with psycopg.connect(stack.env["DATABASE_URL"], connect_timeout=5) as client:
                return client.execute("SELECT 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    wait_until(answers, 20, "the database through PgBouncer")
    assert stack.pid("pgbouncer") == pooled
