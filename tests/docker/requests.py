"""A user who changes rules without a pause while things break, and what became of each request."""

import json
import threading
from contextlib import suppress
from typing import Any

from paho.mqtt.client import Client

from tests.docker.command import Failed, expect, wait_until
from tests.docker.load import Account, Stack, connect, disconnect

SECONDS = 0.5
# At most so many rules in a document: its number of rules says which request an answer is for.
CYCLE = 20
MOST = 3000
# A busy machine answers more slowly than it is asked; a user may have no more than some requests at a time.
MOST_UNANSWERED = 5
# So many of the last may have no acknowledgement when a process ends.
UNACKNOWLEDGED = 8
PATIENCE_SECONDS = 120.0
_RULES = "SELECT rules FROM user_configs WHERE user_id = %s"
_RULE = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}


class Requests:
    """Two documents of rules a second at most, each with another number of them than the one before."""

    def __init__(self, stack: Stack, user: str, account: Account) -> None:
        self._stack = stack
        self._user = user
        self._sent = self._answered = self._again = 0
        self._wrong: list[str] = []
        self._stopping = threading.Event()
        self._client = connect(stack, account, name=f"{user}-requests")
        self._client.on_message = self._hear
        subscribe(self._client, f"users/{user}/config/status")
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    def await_answer(self, seconds: float) -> float:
        """Waits for the answer to the next request; returns how many seconds it took. Raises `Failed`."""
        wanted = self._sent + 1
        return wait_until(lambda: self._answered >= wanted, seconds, "the answer to a new request")

    def settle(self) -> str:
        """Every request so far has its answer, in order. Raises `Failed` when one is lost or out of order.

        An answer may come twice: a process that ends right after it may not have acknowledged the request.
        """
        sent = self._sent
        with suppress(Failed):
            wait_until(lambda: bool(self._wrong) or self._answered >= sent, PATIENCE_SECONDS, "the answers")
        expect(not self._wrong, f"after {self._answered} answers in order came {self._wrong[:1]}")
        expect(self._answered >= sent, f"{sent - self._answered} of {sent} requests have no answer")
        return f"{sent:,} requests answered in order, {self._again} of them twice"

    def stop(self) -> None:
        """Ends publishing. Raises `Failed` unless the table has the rules of the last request."""
        self._stopping.set()
        self._thread.join()
        try:
            self.settle()
            with self._stack.database() as connection:
                row = connection.execute(_RULES, [self._user]).fetchone()
            found, wanted = len(row[0]) if row else 0, count(self._sent - 1)
            expect(found == wanted, f"the table has {found} rules, the last request had {wanted}")
        finally:
            disconnect(self._client)

    def _hear(self, _client: Client, _data: object, message: Any) -> None:
        answer = json.loads(message.payload)
        last = range(max(0, self._answered - UNACKNOWLEDGED), self._answered)
        if answer["ok"] and answer["rules"] == count(self._answered):
            self._answered += 1
        elif answer["ok"] and answer["rules"] in map(count, last):
            self._again += 1
        else:
            self._wrong.append(str(answer))

    def _run(self) -> None:
        while not self._stopping.wait(SECONDS) and self._sent < MOST:
            if self._sent - self._answered >= MOST_UNANSWERED:
                continue
            rules = [{**_RULE, "id": f"r{number}"} for number in range(count(self._sent))]
            document = json.dumps({"rules": rules}).encode()
            self._client.publish(f"users/{self._user}/config", document, qos=1)
            self._sent += 1


def count(number: int) -> int:
    """How many rules the document of this number has."""
    return number % CYCLE + 1


def subscribe(client: Client, *topics: str) -> None:
    """Returns when the broker has confirmed the subscriptions. Raises `Failed`."""
    refused: list[str] = []
    done: list[int] = []

    def confirmed(_client: Client, _data: object, _mid: int, codes: list[Any], _properties: object) -> None:
        refused.extend(str(code) for code in codes if code.is_failure)
        done.append(1)

    client.on_subscribe = confirmed
    for one in topics:
        client.subscribe(one, qos=1)
    wait_until(lambda: len(done) == len(topics), 15, "the subscription")
    if refused:
        raise Failed(f"the broker refuses a subscription: {refused[0]}")
