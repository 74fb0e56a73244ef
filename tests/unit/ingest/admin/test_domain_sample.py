"""`sluice domain new --from`: the module that it writes takes the samples that it was made from."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.domains import domain_sample
from ingest.admin.errors import OperatorError
from tasks.domain.domain import Domain
from tasks.domain.payload import Limits
from tests.conftest import PROJECT
from tests.device_page import promises
from tests.payloads import VALUES

ARRIVAL_MS = 1_795_165_300_000
JSON = [one for one in promises() if one.rows and one.payload[:1] in {b"{", b"["}]


def made(samples: list[bytes]) -> tuple[str, Domain[Any]]:
    """The text for these samples, and its domain."""
    text = domain_sample.guess("things", "Things", "Thing", samples, ARRIVAL_MS).module
    namespace: dict[str, Any] = {"__name__": "guessed"}
    exec(compile(text, "guessed", "exec"), namespace)  # noqa: S102 - it is our own text
    return text, namespace["DOMAIN"]


@pytest.mark.parametrize("payload", [one.payload for one in JSON], ids=lambda payload: repr(payload[:40]))
def test_samples_of_off_the_shelf_devices(payload: bytes) -> None:
    """Each becomes a row, or several, by a declaration of its own."""
    _, domain = made([payload])
    found = domain.read("things/one", payload, ARRIVAL_MS, Limits())
    assert found.readings
    assert found.refused is None


def test_a_declaration_says_what_the_samples_have() -> None:
    """Columns by path, times in their form, numbers in text; several samples are one declaration."""
    text, domain = made(
        [
            b'{"last_seen": 1795165200123, "BME280": {"Temperature": 1.5}, "battery": "81", "on": true}',
            b'{"last_seen": "2026-11-20T09:00:00Z", "battery": 5, "name": "x", "1.8.0": 7, "list": [1]}',
        ]
    )
    assert 'times=(When("last_seen", "iso", "epoch"),)' in text
    assert 'bme280_temperature: Double | None = at("BME280.Temperature")' in text
    assert 'value_1_8_0: Double | None = at("\\"1.8.0\\"")' in text
    assert "on: Boolean | None = None" in text
    assert 'numbers="text"' in text
    assert domain.columns[2:-2] == ("bme280_temperature", "battery", "on", "name", "value_1_8_0")


@pytest.mark.parametrize(
    "key",
    [
        *("class", "from", "at", "None", "copy", "model_id", "device", "reading_id", "extra_data"),
        *("", " ", "/x", "//", "*", "a.*", "{device}", '"', "\\", "'", "é", "😀", "\n😀", "#", "0", "_a"),
        *("x" * 80, "a-b", "a b", "$a", "@type", "sensor/temperature"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_any_name_of_a_value_has_a_column(key: str, wrapped: bool) -> None:
    """Also one that Python, or a path of a form, would read in another way; the next one too."""
    reading = {key: 1.5, "BME280": {key: 2.5}}
    payload = json.dumps([reading] if wrapped else reading).encode()
    _, domain = made([payload])
    ((_, found),) = domain.read("things/one", payload, ARRIVAL_MS, Limits()).readings
    values = [getattr(found.fields, name) for name in domain.columns[2:-2]]
    assert values == [1.5, 2.5]


def test_an_array_is_several_readings() -> None:
    """At the top of a message."""
    text, domain = made([b'[{"ts": 1795165200, "t": 1}, {"ts": 1795165201, "t": 2}]'])
    assert 'each="*"' in text
    found = domain.read("things/one", b'[{"ts": 1795165200, "t": 1}, {"t": 2}]', ARRIVAL_MS, Limits())
    assert len(found.readings) == 2


@given(
    readings=st.lists(
        st.dictionaries(st.sampled_from(["a", "b.c", "Über", "time", "ts", "x y", "1"]), VALUES, min_size=1),
        min_size=1,
        max_size=3,
    )
)
def test_any_samples_make_a_declaration_that_takes_them(readings: list[dict[str, Any]]) -> None:
    """Or hold no reading."""
    samples = [json.dumps(one).encode() for one in readings]
    _, domain = made(samples)
    for sample in samples:
        domain.read("things/one", sample, ARRIVAL_MS, Limits())


@pytest.mark.parametrize("sample", [b"{", b"5", b"[1]", b"[]"])
def test_a_sample_that_is_not_of_readings_is_refused(sample: bytes) -> None:
    """With a sentence."""
    with pytest.raises(OperatorError, match="sample"):
        domain_sample.guess("things", "Things", "Thing", [sample], ARRIVAL_MS)


def test_lines_are_samples() -> None:
    """One JSON value in each; or one over several lines."""
    assert domain_sample.split(b'{"a": 1}\n\n{"a": 2}\n') == [b'{"a": 1}', b'{"a": 2}']
    assert domain_sample.split(b'{"a":\n1}') == [b'{"a":\n1}']


def test_the_command_writes_a_module_whose_test_passes(tmp_path: Path) -> None:
    """And the domain can be tried at once."""
    project = PROJECT
    sample = tmp_path / "sample.json"
    sample.write_text('{"ts": 1795165200123, "temperature": "21.5"}')

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(project), "SLUICE_ENV_FILE": "/dev/null"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("ingest.cli", "domain", "new", "cold_rooms", "--from", "sample.json")
    assert "1 passed" in run("pytest", "-q", "-p", "no:cacheprovider", "domains/test_cold_rooms.py")
    tried = run(
        *("ingest.cli", "domain", "try", "domains/cold_rooms.py", "--topic", "cold_rooms/a"),
        *("--payload", "sample.json"),
    )
    assert json.loads(tried)["temperature"] == 21.5
