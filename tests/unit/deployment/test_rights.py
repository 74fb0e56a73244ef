"""The database rights: no table is forgotten."""

import re

from ingest.admin.servers.migrate import SQL_DIR


def test_the_rights_on_every_table_are_said() -> None:
    """A new table is in the file of the rights, among those that workers may write or may not."""
    rights = (SQL_DIR / "0099_rights.always.sql").read_text()
    files = [path.read_text() for path in SQL_DIR.glob("*.sql")]
    # The first domain's is among the declared ones.
    tables = {name for text in files for name in re.findall(r"CREATE TABLE (\w+)", text)} - {"raw_telemetry"}
    assert [name for name in sorted(tables) if not re.search(rf"\b{name}\b", rights)] == []
