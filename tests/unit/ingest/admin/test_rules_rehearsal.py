"""Rules tried on readings of the past: the same verdicts as the workers', without anybody told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.admin.errors import OperatorError
from ingest.admin.rulesets.rules import RulesRefused, as_text, explain, load, parse_since
from ingest.admin.rulesets.rules_rehearsal import Stored, judge
from ingest.cli.rules_page.examples import EXAMPLES, Example
from tasks.rules.machine import Observation
from tasks.rules.parsing import parse_rules

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}


def history(device: str, *readings: tuple[float, dict[str, Any]]) -> list[Stored]:
    """Readings of a device at so many seconds after the start."""
    stored = []
    for number, (seconds, payload) in enumerate(readings):
        time = START + timedelta(seconds=seconds)
        ms = int(time.timestamp() * 1000)
        stored.append((device, Observation(0, number, ms, time, number, payload)))
    return stored


def at(seconds: float) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


def test_each_firing_has_its_begin_and_end_and_flaps_are_told() -> None:
    """An alert that is back within five minutes is a flap; one that is not over is open."""
    heat = [(0, 90), (60, 70), (120, 91), (180, 70), (3600, 95)]
    stored = history("d1", *((second, {"temperature": value}) for second, value in heat))
    stored += history("d2", (0, {"temperature": 1}))
    rules = parse_rules([HOT])
    found = judge(rules, "u", stored, at(7200))
    assert (found.readings, found.devices) == (6, 2)
    assert [(f.begin, f.end, f.value, f.flap) for f in found.firings["temperature"]] == [
        (at(0), at(60), 90, False),
        (at(120), at(180), 91, True),
        (at(3600), None, 95, False),
    ]
    text = "\n".join(as_text(rules, found, at(0), at(7200)))
    assert "would have fired 3 times on 1 device, open for 1 h 2 min in all; 1 flap" in text


def test_an_alert_that_flaps_fires_once_until_it_is_calm() -> None:
    """It says so, also of one whose end nothing but the clock would show."""
    heat = [(60 * number, {"temperature": 20 if number % 2 else 90}) for number in range(8)]
    rules = parse_rules([HOT | {"flapping": {"changes": 2, "minutes": 5}}])
    found = judge(rules, "u", history("d", *heat, (86_400, {"temperature": 20})), at(90_000))
    assert [(f.begin, f.end, f.flapping) for f in found.firings["temperature"]] == [
        (at(0), at(60), False),
        (at(120), at(720), True),
    ]
    text = "\n".join(as_text(rules, found, at(0), at(90_000)))
    assert "1 flap (back within 5 minutes); 1 time FLAPPING" in text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.title)
def test_each_kind_of_rule_fires_as_the_page_of_rules_shows(example: Example) -> None:
    """Conditions, changes, what stays the same, what is absent; and the picture shows it."""
    rules = parse_rules([example.rule])
    heard = [(second, payload) for second, payload in example.events if payload is not None]
    end = max(second for second, _ in example.events)
    found = judge(rules, "u", history("fridge", *heard), at(end))
    ((rule_id, firings),) = found.firings.items()
    times = 4 if "flapping" in example.rule else 1
    assert len(firings) == times
    text = "\n".join(as_text(rules, found, at(0), at(end)))
    assert f"{rule_id}: would have fired {times} time{'s' if times > 1 else ''} on 1 device" in text
    assert "at most 1 at once" in text


def test_a_number_beyond_double_precision_is_shown() -> None:
    """JSON may hold it, and so may what is stored."""
    rules = parse_rules([HOT])
    found = judge(rules, "u", history("d1", (0, {"temperature": 10**400})), at(7200))
    assert f"at 1{'0' * 400}" in "\n".join(as_text(rules, found, at(0), at(7200)))


def test_silence_fires_when_patience_ends_and_is_over_with_the_next_reading() -> None:
    """Absences of the device and of one key are judged at their moment, though no clock runs."""
    rules = parse_rules(
        [
            {"operator": "absent", "for_seconds": 60, "message": "silent"},
            {"id": "gps", "key": "gps", "operator": "absent", "for_seconds": 30, "message": "no gps"},
        ]
    )
    stored = history("d", (0, {"gps": 1}), (20, {}), (40, {}), (50, {"gps": 2}), (200, {"gps": 3}))
    found = judge(rules, "u", stored, at(250))
    assert [(f.begin, f.end) for f in found.firings["absent"]] == [(at(110), at(200))]
    assert [(f.begin, f.end) for f in found.firings["gps"]] == [
        (at(30), at(50)),
        (at(80), at(200)),
        (at(230), None),
    ]


def test_rules_are_explained_and_every_error_is_named(tmp_path: Any) -> None:
    """A valid file becomes a sentence for each rule; an invalid one shows every fault with its path."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(
        '{"rules": [{"key": "t", "operator": ">", "threshold": 5, "clear_threshold": 4.5, "for_seconds": 90,'
        ' "message": "hot"}, {"operator": "absent", "for_seconds": 3600, "message": "gone"}]}'
    )
    assert list(explain(load(str(good)))) == [
        "t: t > 5 for 1 min 30 s, over when no longer > 4.5: warning, “hot”",
        "absent: nothing from the device for 1 h: warning, “gone”",
    ]
    bad.write_text('[{"key": "t", "operator": "=>", "threshold": "5"}]')
    with pytest.raises(RulesRefused) as refused:
        load(str(bad))
    for path in ("rules.0.operator", "rules.0.threshold", "rules.0.message"):
        assert f"  {path}: " in str(refused.value)
    with pytest.raises(OperatorError, match=r"none\.json cannot be read"):
        load(str(tmp_path / "none.json"))


def test_since_is_a_span_or_a_time() -> None:
    """Spans count back from now; a time without an offset is UTC; nonsense is refused with examples."""
    assert parse_since("90m", START) == START - timedelta(minutes=90)
    assert parse_since("2w", START) == START - timedelta(days=14)
    assert parse_since("2026-04-30T10:00", START) == START - timedelta(days=1)
    for nonsense in ("", "7", "0d", "-1d", "yesterday", "999999w"):
        with pytest.raises(OperatorError):
            parse_since(nonsense, START)


def test_a_violation_that_lasts_in_silence_fires_at_its_moment() -> None:
    """As by the clock: one reading that violates the rule, and then nothing."""
    rules = parse_rules([HOT | {"for_seconds": 60}])
    stored = history("d", (0, {"temperature": 90}), (20, {}), (300, {"temperature": 20}))
    found = judge(rules, "u", stored, at(400))
    assert [(f.begin, f.end) for f in found.firings["temperature"]] == [(at(60), at(300))]
    found = judge(rules, "u", stored[:1], at(59))
    assert found.firings["temperature"] == []
