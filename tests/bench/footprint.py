"""What a fleet takes: the memory of each process, what Redis has by kind of key, and the size of tables."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import redis

from compose.local.stack import Stack
from tests.bench.cost import family

PROGRAMS = ("bridge", "gateway", "control", "beat", "mosquitto", "kafka", "redis", "pgbouncer", "postgres")
HYPERTABLE = "raw_telemetry"
TABLES = (
    *("devices", "device_days", "active_alerts", "alert_history", "user_configs", "rule_versions"),
    *("rollups_hourly", "rollups_daily", HYPERTABLE),
)
# A hypertable's rows are in its chunks.
SIZE, SIZE_OF_CHUNKS = "SELECT pg_total_relation_size(%s)", "SELECT hypertable_size(%s)"
KEYS_AT_ONCE = 1000

Connection = psycopg.Connection[tuple[Any, ...]]


def of_processes(stack: Stack) -> dict[str, int]:
    """The proportional set size of each program, with its children, in bytes.

    What processes share counts once in all. A worker's children are apart: the largest counts.
    """
    main = stack.pid("worker")
    sizes = {name: sum(map(_pss, family(stack.pid(name)))) for name in PROGRAMS}
    children = map(_pss, family(main)[1:])
    return {"worker, main process": _pss(main), "worker, largest child": max(children), **sizes}


def of_redis(server: redis.Redis) -> dict[str, tuple[int, int]]:
    """For each kind of key how many there are, and their bytes; `all` is all memory that Redis uses."""
    info: dict[str, Any] = server.info("memory")
    found = {"all": (server.dbsize(), int(info["used_memory"]))}
    numbers: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    keys = list(server.scan_iter(count=KEYS_AT_ONCE))
    for start in range(0, len(keys), KEYS_AT_ONCE):
        commands = server.pipeline(transaction=False)
        for key in keys[start : start + KEYS_AT_ONCE]:
            # All elements, not a sample of them.
            commands.memory_usage(key, samples=0)
        for key, size in zip(keys[start : start + KEYS_AT_ONCE], commands.execute(), strict=True):
            kind = kind_of(key.decode(errors="replace"))
            numbers[kind] += 1
            # It may have expired meanwhile.
            sizes[kind] += size or 0
    return found | {kind: (numbers[kind], size) for kind, size in sizes.most_common()}


def kind_of(key: str) -> str:
    """The first word of a key's name."""
    return key.removeprefix("sluice:").partition(":")[0]


def of_tables(connection: Connection) -> dict[str, tuple[int, int]]:
    """For each table how many rows it has, and its bytes on disk with those of its indexes."""
    found = {}
    for table in TABLES:
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        size = connection.execute(SIZE_OF_CHUNKS if table == HYPERTABLE else SIZE, [table]).fetchone()
        found[table] = (int(rows[0]) if rows else 0, int(size[0] or 0) if size else 0)
    return found


def pss(rollup: str) -> int:
    """The proportional set size that the text of `smaps_rollup` says, in bytes."""
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _pss(pid: int) -> int:
    try:
        return pss(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
