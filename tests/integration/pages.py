"""The monitoring pages of a stack's processes."""

import urllib.request
from typing import Protocol

from prometheus_client.parser import text_string_to_metric_families

VARIABLES = {
    "worker": "METRICS_PORT",
    "gateway": "GATEWAY_METRICS_PORT",
    "bridge": "BRIDGE_METRICS_PORT",
    "control": "CONTROL_METRICS_PORT",
    "notify": "NOTIFY_METRICS_PORT",
    "beat": "BEAT_METRICS_PORT",
}


class Described(Protocol):
    """Something that has settings: a stack, or something like it."""

    @property
    def env(self) -> dict[str, str]:
        """The settings."""


def samples(stack: Described, process: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of the process, by name and labels; fails when a series is there twice."""
    url = f"http://127.0.0.1:{stack.env[VARIABLES[process]]}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{process} shows {key} twice"
            found[key] = sample.value
    return found


def value(stack: Described, process: str, name: str, **labels: str) -> float:
    """One sample of the process; 0 where there is none yet."""
    return samples(stack, process).get((name, frozenset(labels.items())), 0.0)
