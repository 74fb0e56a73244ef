"""An upgrade: the session of earlier versions, whose client id was the bare name, is emptied and ended.

Anybody who guessed the name could take that session over, and it would go on gathering messages for nobody.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from ingest.mqtt.acknowledge import Acknowledgements
from ingest.mqtt.packets import Publish
from ingest.mqtt.session import MqttSession
from tasks.settings import Settings

log = structlog.get_logger()

# After this long without a message the broker has sent all that the session had.
QUIET_SECONDS = 2.0
# A broker that does not let the old client id in has no such session, or keeps it for somebody else.
CONNECT_SECONDS = 10.0
# Somebody else with the same client id may end our connections, again and again.
MOST_CONNECTIONS = 10

Take = Callable[[Publish, Acknowledgements], None]


class OldSession:
    """Takes what is left in the session, by `turn`, until `over`.

    To be begun when the new session has its subscriptions: what is published before this one has left its own
    comes twice, and nothing is missed.
    """

    def __init__(
        self, chosen: Settings, client_id: str, filters: Sequence[str], take: Take, *, receive_maximum: int
    ) -> None:
        self._take = take
        self._session = MqttSession(
            chosen, client_id, [], self._on_message, receive_maximum=receive_maximum, leave=filters, old=True
        )
        self._client_id = client_id
        self._taken = 0
        self._begun_at: float | None = None
        self._stopping = False
        self._heard_at = 0.0
        self.over = False

    def turn(self, seconds: float) -> None:
        """Takes what has come, waiting at most this many seconds for something."""
        session = self._session
        if self._begun_at is None:
            self._begun_at = time.monotonic()
        session.turn(seconds)
        session.unacknowledged.release()
        if self._stopping:
            return
        if problem := self._problem(self._begun_at):
            log.error("old_session_not_emptied", client_id=self._client_id, reason=problem)
            self._end(forget=False)
        elif session.present is False:
            self._end(forget=True)
        elif session.left and not session.unacknowledged and self._quiet():
            self._end(forget=True)
            log.info("old_session_emptied", client_id=self._client_id, messages=self._taken)

    @property
    def unacknowledged(self) -> Acknowledgements:
        """The messages that were taken and are not acknowledged yet."""
        return self._session.unacknowledged

    def stop(self) -> None:
        """Nothing more is taken; what was can still be acknowledged."""
        self._stopping = True
        self._session.stop()

    def close(self) -> None:
        """Ends the connection only: what is left is for the next start."""
        self._session.close()

    def _problem(self, begun_at: float) -> str | None:
        if self._session.present is None and time.monotonic() - begun_at > CONNECT_SECONDS:
            return "the broker refuses every client with this client id"
        if self._session.connects > MOST_CONNECTIONS:
            return "another client connects with this client id, too"
        return self._session.failure

    def _end(self, *, forget: bool) -> None:
        self.over = True
        self._session.close(forget=forget)
        # Reads that the broker has closed the connection.
        self._session.turn(1.0)

    def _quiet(self) -> bool:
        return time.monotonic() - max(self._heard_at, self._session.left_at) > QUIET_SECONDS

    def _on_message(self, message: Publish) -> None:
        self._taken += 1
        self._heard_at = time.monotonic()
        self._take(message, self._session.unacknowledged)
