"""The examples for off-the-shelf devices: each message of docs/devices.md becomes what the page promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.admin.domains.domain_try import attempt, load
from tasks import registry
from tasks.domain.payload import Limits, Refused
from tasks.domain.routing import domain_of
from tests.conftest import PROJECT
from tests.device_page import Promise, promises, shown

PROMISES = promises()
FILES = list(dict.fromkeys(one.file for one in PROMISES))
ARRIVAL_MS, ARRIVAL = 1_795_165_300_000, "2026-11-20T09:01:40Z"


@pytest.mark.parametrize("promise", PROMISES, ids=lambda one: f"{Path(one.file).stem} {one.payload[:30]!r}")
def test_each_message_of_the_page(promise: Promise) -> None:
    """Its rows, that it is ignored, or why it is refused."""
    tried = attempt(load(promise.file), promise.topic, promise.payload, ARRIVAL_MS, Limits())
    assert [shown(row, ARRIVAL) for row in tried.rows] == promise.rows
    assert tried.ignored is promise.ignored
    assert [f"{one['error_type']}: {one['reason']}" for one in tried.refused] == promise.refused


def test_all_eleven_go_together() -> None:
    """In one deployment with the telemetry: each topic has its own domain."""
    assert len(FILES) == 11
    domains = registry.load(",".join(["tasks.telemetry", *(file[:-3].replace("/", ".") for file in FILES)]))
    for one in PROMISES:
        assert domain_of(one.topic, domains).name == Path(one.file).stem
    assert domain_of("users/a/devices/b/telemetry", domains).name == "telemetry"


@pytest.mark.parametrize("file", FILES)
def test_an_example_is_short(file: str) -> None:
    """A kind of device fits on a page."""
    assert len((PROJECT / file).read_text().splitlines()) <= 40


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "payload",
    [b"[[]]", b"{", b"\x00\xff", b'"x"', b"[]", b"{}", b"[1]", b'{"metrics": [1]}', b"5", b"\n\x03abc\x10"],
)
def test_odd_payloads_have_an_outcome(file: str, payload: bytes) -> None:
    """Whatever comes on a topic of the example."""
    domain = load(file)
    for topic in {one.topic for one in PROMISES if one.file == file}:
        try:
            found = domain.read(topic, payload, ARRIVAL_MS, Limits())
        except Refused as refused:
            assert len(refused.reason) <= 300  # noqa: PT017 - either outcome is right
        else:
            assert found.is_ignored or found.readings or found.refused


@pytest.mark.parametrize("file", ["examples/chirpstack.py", "examples/things_stack.py"])
def test_protobuf_is_named(file: str) -> None:
    """Messages of a server that was not set to JSON."""
    topic = next(one.topic for one in PROMISES if one.file == file)
    (found,) = attempt(load(file), topic, b"\x0a\x03abc\x10\x02", ARRIVAL_MS, Limits()).refused
    assert "it looks like Protobuf" in found["reason"]


def _try(*arguments: str, payload: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "ingest.cli", "domain", "try", *arguments],
        input=payload,
        capture_output=True,
        cwd=PROJECT,
        check=False,
        timeout=60,
    )


def test_the_command_shows_rows_and_refusals(tmp_path: Path) -> None:
    """In lines, or as JSON; from a file or standard input; exit code 1 if anything is refused."""
    sample = tmp_path / "sample.json"
    sample.write_text('{"temperature": "21.5"}')
    arguments = ("examples/zigbee2mqtt.py", "--topic", "zigbee2mqtt/kitchen")
    done = _try(*arguments, "--payload", str(sample))
    assert (done.returncode, json.loads(done.stdout)["temperature"]) == (0, 21.5)
    done = _try(*arguments, "--payload", "-", "--json", payload=b'{"temperature": "warm"}')
    found = json.loads(done.stdout)
    assert (done.returncode, found["rows"], found["ignored"]) == (1, [], False)
    assert found["refused"][0]["error_type"] == "InvalidField"
    done = _try(*arguments, "--payload", "-", "--json", payload=b"{}")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"rows": [], "ignored": True, "refused": []})
    done = _try("tasks.telemetry", "--topic", "elsewhere", "--payload", str(sample))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"refused: InvalidTopic: the topic must be users/{user_id}/devices" in done.stderr


@pytest.mark.parametrize("file", ["nowhere.py", "setup.cfg.py"])
def test_a_file_that_is_not_there(file: str) -> None:
    """Named, without a traceback."""
    done = _try(file, "--topic", "a", "--payload", "-")
    assert done.returncode == 1
    assert f"There is no file {file}." in done.stderr.decode()
