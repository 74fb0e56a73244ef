"""A webhook that often fails, and the judgement of what it was told."""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from tests.integration.receivers import Answer, Call, Receiver, http_receiver

SHARE = 0.3
FAILURES = (*[Answer(500), Answer(503), Answer(404)] * 9, Answer(429, (("Retry-After", "1"),)))
HELD_SECONDS = 2.0

Change = tuple[str, float]
"""Status and value: those of a reading, which no other reading of its device has."""


class Webhook:
    """Fails so often by chance; holds a request while its sender is to be killed.

    `most_failures` is how often it fails one message: the pause after each failure is twice the last one.
    """

    def __init__(self, seed: int, most_failures: int) -> None:
        self._chance = random.Random(seed)
        self._most = most_failures
        self._failures: Counter[str] = Counter()
        self._hold = threading.Event()
        self._held = threading.Event()

    @contextmanager
    def open(self) -> Iterator[Receiver]:
        """Its server."""
        with http_receiver(by_key=self._answer) as receiver:
            yield receiver

    def await_request(self, seconds: float) -> bool:
        """Returns, if one comes in time, when it has a request that it will confirm only later."""
        self._held.clear()
        self._hold.set()
        return self._held.wait(seconds)

    def _answer(self, key: str) -> Answer:
        if self._hold.is_set():
            self._hold.clear()
            self._held.set()
            return Answer(after_s=HELD_SECONDS)
        fails = self._chance.random() < SHARE
        if fails and self._failures[key] < self._most:
            self._failures[key] += 1
            return self._chance.choice(FAILURES)
        return Answer()


class Judgement:
    """What a webhook that was told all these requests has: what was lost, doubled, repeated, out of order."""

    def __init__(self, calls: Sequence[Call], wanted: dict[str, list[Change]]) -> None:
        confirmed = [call for call in calls if call.status == 200]
        self.requests, self.failed = len(calls), len(calls) - len(confirmed)
        keys = Counter(call.key for call in confirmed)
        self.repeated = len(confirmed) - len(keys)
        """Confirmed requests under a key that was confirmed before."""
        told: dict[str, list[tuple[str, Change]]] = defaultdict(list)
        self.wrong_keys = 0
        for call in confirmed:
            notice = call.notice
            self.wrong_keys += call.key != f"{notice['alert_id']}/{notice['status']}"
            told[notice["device_id"]].append((call.key, (notice["status"], notice["value"])))
        self.alerts = len({call.notice["alert_id"] for call in confirmed})
        seen = Counter((device, change) for device, one in told.items() for _, change in dict(one).items())
        all_wanted = {(device, change) for device, changes in wanted.items() for change in changes}
        self.lost = len(all_wanted - seen.keys())
        self.invented = len(seen.keys() - all_wanted)
        self.doubled = sum(count - 1 for count in seen.values())
        """The same change under another key, which no receiver could take for a repetition."""
        self.disordered = sum(
            # A repetition comes before anything else of its device.
            [change for _, change in _without_repetitions(told[device])] != changes
            for device, changes in wanted.items()
        )

    def problems(self, alerts: int, most_repeated: int) -> list[str]:
        """What is not as promised, in sentences."""
        faults = {
            f"{self.lost} changes were lost": self.lost,
            f"{self.doubled} changes came under two keys": self.doubled,
            f"{self.invented} changes never happened": self.invented,
            f"{self.wrong_keys} requests had another key than alert_id/status": self.wrong_keys,
            f"the changes of {self.disordered} devices were not as they happened": self.disordered,
            f"{self.repeated} were repeated, {most_repeated} may be": self.repeated > most_repeated,
            f"there were {self.alerts} alerts, not {alerts}": self.alerts != alerts,
        }
        return [sentence for sentence, is_so in faults.items() if is_so]


def _without_repetitions(told: Sequence[tuple[str, Change]]) -> list[tuple[str, Change]]:
    return [next(same) for _, same in groupby(told, key=lambda one: one[0])]
