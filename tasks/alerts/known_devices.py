"""Whether a device exists. The effect of a command for a device that never existed would be kept forever."""

from psycopg import sql

from tasks.alerts import last_seen
from tasks.domain.domain import AnyDomain
from tasks.servers import database
from tasks.servers.redis_client import alert_key, client
from tasks.servers.table_names import names

STATEMENT_SECONDS = 10
# Rows come last: where there are none, the search reads each chunk's index.
KNOWN = """
SELECT EXISTS (
    SELECT FROM mqtt_users WHERE kind = 'device' AND user_id = %(user)s AND device_id = %(source)s
) OR EXISTS (SELECT FROM {table} WHERE {owner} = %(user)s AND {source} = %(source)s)
"""


def is_known(domain: AnyDomain, user_id: str, device_id: str) -> bool:
    """Whether the device has a state, was seen, has an account, or has a row: the cheapest check comes first.

    Raises `redis.RedisError`, `psycopg.Error`.
    """
    if domain.user_id not in {None, user_id}:
        return False
    if client().exists(alert_key(user_id, device_id)) or last_seen.was_seen(domain, (user_id, device_id)):
        return True
    source = domain.source_id(device_id)
    with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute(sql.SQL(KNOWN).format(**names(domain)), {"user": user_id, "source": source})
        return cursor.fetchone() == (True,)
