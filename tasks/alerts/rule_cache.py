"""The rule sets that a worker judges by: compiled copies of `user_configs`, usually at most one second old.

The set of a user has the operator's rules, too, which hold for every user. After a change of those, too, a
user's set is made again when it is needed, so many users do not make a burst of work.

They are up to a minute old where nothing announced a change by SQL, and as old as an outage of the database.
A number in Redis changes with every change of the rules, however it is made: each call reads that number, and
from Postgres only the users whose copies are outdated by it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import psycopg
import structlog

from tasks.alerts import stored_rules
from tasks.alerts.stored_rules import Stored
from tasks.errors import NotNow
from tasks.rules.everyone import EVERYONE, beside, named
from tasks.rules.model import Rule
from tasks.rules.parsing import sift_rules
from tasks.rules.rule import NO_RULES, RuleSet
from tasks.servers.rules_version import rules_version

log = structlog.get_logger()

# Makes up for a number that was not changed, for example because nothing listened to the database.
RELOAD_SECONDS = 60.0
# While the database is away, not every batch waits for it.
TRY_AGAIN_SECONDS = 5.0
# Users whose copies a process keeps, besides those of the last call.
MAX_USERS = 10_000

NOTHING = Stored([])
"""The stored rules of a user without a row."""


class RulesUnknown(NotNow):
    """The database is away, and a user's rules were never read; check DATABASE_URL and the server."""


class Versioned(NamedTuple):
    """Rule sets by user, and the version of the rules that they are at least as new as."""

    sets: dict[str, RuleSet]
    version: bytes


class RuleSets:
    """The copies of one process. `load` reads users from the database, `version` the number in Redis."""

    def __init__(
        self,
        load: Callable[[list[str]], Mapping[str, Stored]],
        version: Callable[[], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._version = version
        self._clock = clock
        # As they are in the table, those of `EVERYONE` among them.
        self._own: dict[str, RuleSet] = {}
        self._operators: tuple[Rule, ...] = ()
        # With the operator's rules beside them; without such rules, the same objects.
        self._sets: dict[str, RuleSet] = {}
        self._stored: dict[str, Stored] = {}
        self._current: set[str] = set()
        self._seen: bytes | None = None
        self._reload_at = 0.0
        self._away_until: float | None = None

    def get(self, users: Iterable[str]) -> dict[str, RuleSet]:
        """The users' sets, each the same object until it changes. Raises like `rule_sets`."""
        return self.versioned(users).sets

    def versioned(self, users: Iterable[str]) -> Versioned:
        """The users' sets with their version. Raises like `rule_sets`."""
        wanted = set(users)
        # Read before the rules, which are then at least as new as the number.
        version = self._version()
        now = self._clock()
        if version != self._seen or now >= self._reload_at:
            self._current.clear()
            self._seen, self._reload_at = version, now + RELOAD_SECONDS
        if outdated := {EVERYONE, *wanted} - self._current:
            self._refresh(outdated, now)
        found = {user: self._sets.get(user) or self._beside(user) for user in wanted}
        if len(self._own) - 1 > MAX_USERS:
            self._make_room({EVERYONE, *wanted})
        return Versioned(found, version)

    def _refresh(self, users: set[str], now: float) -> None:
        if self._away_until is not None and now < self._away_until:
            self._make_do(users, None)
            return
        try:
            stored = self._load(sorted(users))
        except psycopg.Error as error:
            if self._away_until is None:
                log.warning("rules_not_read", error=str(error).strip(), known=len(self._own))
            self._away_until = now + TRY_AGAIN_SECONDS
            self._make_do(users, error)
            return
        if self._away_until is not None:
            log.info("rules_read_again")
            self._away_until = None
        for user in sorted(users):
            self._take(user, stored.get(user, NOTHING))
        self._current |= users

    def _make_do(self, users: set[str], error: psycopg.Error | None) -> None:
        if unknown := users - self._own.keys():
            raise RulesUnknown(f"the rules of {len(unknown)} users cannot be read") from error

    def _take(self, user: str, stored: Stored) -> None:
        if user in self._own and stored == self._stored[user]:
            # The same object as the loader's, so that it is in memory once.
            self._stored[user] = stored
            return
        # Rules written by SQL were not checked: the valid ones count, whatever was there before, so that
        # all workers judge by the same rules, whenever they were started.
        found = sift_rules(*stored)
        self._own[user] = found.rules
        if user == EVERYONE:
            self._operators = named(found.rules)
            self._sets.clear()
        self._sets.pop(user, None)
        if found.faults:
            rules = len(found.rules.rules)
            log.error("rules_invalid", user_id=user, errors=found.faults[:5], in_force=rules)
        self._stored[user] = stored

    def _beside(self, user: str) -> RuleSet:
        found = self._sets[user] = beside(self._own[user], self._operators)
        return found

    def _make_room(self, wanted: set[str]) -> None:
        """Forgets the users who have been known for longest, except those in `wanted`."""
        others = [user for user in self._own if user not in wanted]
        for user in others[: len(self._own) - 1 - MAX_USERS]:
            del self._own[user]
            self._sets.pop(user, None)
            del self._stored[user]
            self._current.discard(user)


def rule_sets(users: Iterable[str]) -> dict[str, RuleSet]:
    """The rule set of each user, `NO_RULES` for those without; how old they may be is said above.

    While the database is away, the sets of known users may be as old as the outage. Raises `RulesUnknown`
    for other users, and `redis.RedisError`.
    """
    return versioned(users).sets


def versioned(users: Iterable[str]) -> Versioned:
    """The rule sets, with the version that must still hold at the commit. Raises like `rule_sets`."""
    return _shared().versioned(users)


def present(users: Iterable[str]) -> dict[str, RuleSet]:
    """The users' sets as they are in the tables now. Raises `psycopg.Error`."""
    stored = stored_rules.load([EVERYONE, *users])
    own = {user: sift_rules(*one).rules for user, one in stored.items()}
    operators = named(own.get(EVERYONE, NO_RULES))
    return {user: beside(own.get(user, NO_RULES), operators) for user in users}


@lru_cache
def _shared() -> RuleSets:
    return RuleSets(stored_rules.load, rules_version)
