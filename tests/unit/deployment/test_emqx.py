"""EMQX's configuration says the same as the code and Compose."""

import re

from compose.local.layout import PROJECT
from ingest.admin.accounts import accounts, passwords
from tests.unit.deployment.documents import DEFAULTS, EMQX, SERVICES


def test_emqx_asks_the_tables_that_provision_writes() -> None:
    """Its hashes are those of `sluice provision`, its queries name columns that exist, and it denies."""
    (login,) = EMQX["authentication"]
    assert login["password_hash_algorithm"] == {
        "name": "pbkdf2",
        "mac_fun": "sha512",
        "iterations": passwords.ITERATIONS,
        "dk_length": passwords.HASH_BYTES,
    }
    tables = (PROJECT / "sql" / "0004_mqtt_credentials.sql").read_text()
    rights = EMQX["authorization"]["sources"][0]
    for query in (login["query"], rights["query"]):
        columns, table = re.fullmatch(r"SELECT (.+) FROM (\w+) WHERE .+", query).groups()  # type: ignore[union-attr]
        assert f"CREATE TABLE {table} (" in tables
        assert all(re.search(rf"^\s+{column} ", tables, re.MULTILINE) for column in columns.split(", "))
        assert "'${" not in query
    assert " AND enabled " in login["query"]
    assert {login["username"], rights["username"]} == {"sluice_emqx"}
    assert EMQX["authorization"]["no_match"] == "deny"
    assert len(EMQX["authorization"]["sources"]) == 1
    listeners = {**EMQX["listeners"]["tcp"], **EMQX["listeners"]["ssl"]}
    assert all(one["enable_authn"] == "quick_deny_anonymous" for one in listeners.values())


def test_emqx_gives_nobody_the_session_of_another_account() -> None:
    """In every zone a client id begins with its account, and a colon, which no account has in its name."""
    assert EMQX["mqtt"]["clientid_override"] == "concat([username, ':', clientid])"
    assert not any("clientid_override" in zone["mqtt"] for zone in EMQX["zones"].values())
    assert "use_username_as_clientid" not in EMQX["mqtt"]
    for account in (accounts.device("a:b", "c:d"), accounts.user("a:b"), accounts.service("a:b")):
        assert ":" not in account.username


def test_emqx_keeps_on_its_disk_what_waits_for_one_gateway() -> None:
    """Our zone has durable sessions, no gateway of Compose shares, and the disk outlives the container."""
    zone = EMQX["zones"][EMQX["listeners"]["tcp"]["bridge"]["zone"]]
    assert zone["durable_sessions"]["enable"] is True
    assert EMQX["durable_sessions"]["enable"] is False
    assert EMQX["durable_sessions"]["message_retention_period"].days == 7
    assert not any("MQTT_SHARED_GROUP" in service.get("environment", {}) for service in SERVICES.values())
    assert "emqx-data:/opt/emqx/data" in SERVICES["emqx"]["volumes"]
    assert "EMQX_NODE__NAME" in SERVICES["emqx"]["environment"]


def test_emqx_bounds_devices_and_keeps_what_waits_for_us() -> None:
    """Devices have quotas; we have a long session and queue, and a device's messages keep their order."""
    for listener in (EMQX["listeners"]["tcp"]["default"], EMQX["listeners"]["ssl"]["default"]):
        assert listener["messages_rate"]
        assert listener["bytes_rate"]
    bridge = EMQX["listeners"]["tcp"]["bridge"]
    assert "messages_rate" not in bridge
    assert bridge["bind"].endswith(f":{SERVICES['worker']['environment']['MQTT_PORT']}")
    zone = EMQX["zones"][bridge["zone"]]["mqtt"]
    assert zone["max_mqueue_len"] > EMQX["mqtt"]["max_mqueue_len"]
    assert zone["max_inflight"] >= DEFAULTS["mqtt_receive_maximum"]
    assert EMQX["mqtt"]["shared_subscription_strategy"] in {"hash_topic", "hash_clientid"}
    assert EMQX["listeners"]["ws"]["default"]["enable"] is False
    assert EMQX["listeners"]["wss"]["default"]["enable"] is False
