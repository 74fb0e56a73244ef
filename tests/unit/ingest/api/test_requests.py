"""Requests that go through a worker, while no worker answers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ingest.api import requests
from ingest.api.callers import Caller
from ingest.api.problems import Busy


def test_a_tenant_whose_requests_no_worker_answers_holds_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third request of a tenant is refused at once; another tenant's still waits for its answer."""
    waiting, answered = threading.Semaphore(0), threading.Event()

    def wait(_kind: str, user_id: str, *_: Any) -> dict[str, Any]:
        waiting.release()
        answered.wait(10)
        return {"ok": True, "rules": len(user_id)}

    monkeypatch.setattr(requests, "_ask", wait)
    with ThreadPoolExecutor(3) as pool:
        begun = [
            pool.submit(requests.ask, Caller(user), "config", user, b"[]") for user in ("ada", "ada", "eve")
        ]
        try:
            assert all(waiting.acquire(timeout=10) for _ in begun)
            with pytest.raises(Busy, match="2 requests with tokens of this user wait for a worker"):
                requests.ask(Caller("ada"), "config", "ada", b"[]")
        finally:
            answered.set()
        assert [one.result()["ok"] for one in begun] == [True] * 3
