"""After a change of rules: resolves the open alerts of rules that are gone."""

import time
from functools import partial

import psycopg
import redis
import structlog

from tasks import registry
from tasks.alerts import state_store
from tasks.alerts.rule_cache import present
from tasks.app import app
from tasks.domain.placement import about, for_device
from tasks.errors import NotNow
from tasks.outbox import deliver
from tasks.rules import machine
from tasks.rules.everyone import EVERYONE
from tasks.rules.rule import RuleSet
from tasks.rules.state import DeviceState
from tasks.servers.rules_version import rules_version

log = structlog.get_logger()

# Few enough that readings which arrive meanwhile rarely make a commit start again.
AT_ONCE = 100


@app.task(
    name="tasks.alerts.apply_rules",
    autoretry_for=(NotNow, redis.RedisError, psycopg.Error),
    retry_backoff=1,
    retry_backoff_max=60,
    max_retries=12,
)
def apply_rules(users: list[str] | None = None) -> None:
    """Resolves open alerts whose rule is gone or is another one now, for these users or for all.

    Safe to run twice, and while readings are judged. An invalid rule counts as missing; domains that this
    worker does not have are skipped.
    """
    of_interest = None if users is None or EVERYONE in users else set(users)
    devices = [
        device
        for device in state_store.load_all()
        if (of_interest is None or device[0] in of_interest) and registry.of_device(device[1]) is not None
    ]
    now_ms = int(time.time() * 1000)
    changes = 0
    for start in range(0, len(devices), AT_ONCE):
        changes += state_store.by_present_rules(partial(_apply, devices[start : start + AT_ONCE], now_ms))
    if changes:
        deliver.wake()
    log.info(
        "rules_applied", users=None if users is None else len(users), devices=len(devices), changes=changes
    )


def _apply(devices: list[tuple[str, str]], now_ms: int) -> int:
    # Read before the rules, which are then at least as new.
    version = rules_version()
    users = sorted({user_id for user_id, _ in devices})
    rules = present(users)
    return len(
        state_store.transact(
            devices, lambda state: machine.rules_changed(state, _rules_of(state, rules), now_ms), version
        )
    )


def _rules_of(state: DeviceState, rules: dict[str, RuleSet]) -> RuleSet:
    domain = registry.of_device(state.device_id)
    assert domain is not None
    return for_device(domain, about(domain, rules[state.user_id]), state.device_id)
