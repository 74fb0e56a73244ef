"""The measurement of scale: shares of the CPU, and what is made of its figures."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench import share
from tests.bench.fleet import of_a_message, per_device
from tests.bench.footprint import kind_of, pss
from tests.bench.scale import Round, efficiencies, idle_and_all, summary
from tests.bench.share import Hierarchy, ShareError, hierarchies, limited, limits, share_of

FIRST = """\
cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
proc /proc proc rw 0 0
"""


def test_version_1_is_preferred_where_it_has_the_controller() -> None:
    """`cpuset` is another controller."""
    assert hierarchies(FIRST) == [
        Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), 1),
        Hierarchy(Path("/sys/fs/cgroup/unified"), 2),
    ]
    assert hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n") == [
        Hierarchy(Path("/sys/fs/cgroup"), 2)
    ]
    assert hierarchies("proc /proc proc rw 0 0\n") == []


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("part", [0.02, 0.1, 0.333, 1.5])
def test_a_share_is_read_back(version: int, part: float) -> None:
    """From the files as the kernel ends them, with a line's end."""
    files = {name: f"{text}\n" for name, text in limits(part, version).items()}
    assert share_of(files) == pytest.approx(part, rel=0.001)


@pytest.mark.parametrize(
    "files", [{"cpu.max": "max 100000\n"}, {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}]
)
def test_no_limit_is_no_share(files: dict[str, str]) -> None:
    """As a group is when it has just been made."""
    assert share_of(files) is None


def test_a_share_that_linux_refuses_is_refused_by_name() -> None:
    """A quota has a least size."""
    with pytest.raises(ShareError, match=r"0\.01 is too small; 0\.02 cores are the least"):
        limits(0.01, 2)


def test_a_machine_without_control_groups_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is wanted, and what was tried."""
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(share, "MOUNTS", mounts)
    mounts.write_text("proc /proc proc rw 0 0\n")
    with pytest.raises(ShareError, match=r"as root \(no control groups are mounted\)"), limited("x", 1, 0.1):
        pass
    missing = tmp_path / "missing"
    mounts.write_text(f"cgroup2 {missing} cgroup2 rw 0 0\n")
    with pytest.raises(ShareError, match=f"{missing}: No such file"), limited("x", 1, 0.1):
        pass


def test_efficiency_is_judged_round_by_round() -> None:
    """A slow minute slows one process as it slows four."""
    found = efficiencies({1: [100.0, 50.0], 4: [400.0, 100.0]})
    assert found == {1: [1.0, 1.0], 4: [1.0, 0.5]}


def test_the_summary_has_each_number_of_processes() -> None:
    """Rounds come in any order."""
    rounds = [
        Round(count, rate, 0.9, 0.4, 50.0) for count, rate in ((1, 100.0), (2, 180.0), (2, 90.0), (1, 50.0))
    ]
    one, two = summary(rounds)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["per_second"] == {"median": 135.0, "least": 90.0, "most": 180.0}
    assert two["efficiency"] == {"median": 0.9, "least": 0.9, "most": 0.9}


def test_idle_time_of_the_machine_includes_waiting_for_disks() -> None:
    """The first line is of all CPUs; guests are in the others' time already."""
    assert idle_and_all("cpu  1 2 3 40 5 6 7 8 100 200\ncpu0 0 0 0 0 0 0 0 0 0 0\n") == (45, 72)


def test_a_devices_bytes_are_what_the_fleet_has_grown_by() -> None:
    """A kind of key that was not there before counts whole."""
    before: dict[str, Any] = {
        "devices": 10,
        "process_bytes": {"bridge": 1000},
        "redis_bytes": {"all": 500},
        "table_bytes": {"devices": 80},
    }
    after: dict[str, Any] = {
        "devices": 110,
        "process_bytes": {"bridge": 900},
        "redis_bytes": {"all": 20_500, "newest": 1000},
        "table_bytes": {"devices": 8080},
    }
    assert per_device(before, after) == {
        "process_bytes": {"bridge": -1.0},
        "redis_bytes": {"all": 200.0, "newest": 10.0},
        "table_bytes": {"devices": 80.0},
    }


def test_what_a_program_needs_at_rest_is_no_messages() -> None:
    """Whatever it would have used in these seconds anyway."""
    assert of_a_message({"worker": 3.0, "kafka": 1.0}, {"worker": 0.1}, 100_000, 10.0) == {
        "worker": pytest.approx(20.0),
        "kafka": pytest.approx(10.0),
    }


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("sluice:alert:user1/device7", "alert"),
        ("sluice:alerts:open", "alerts"),
        ("sluice:newest:987654", "newest"),
        ("sluice:newest-parcels:987654", "newest-parcels"),
        ("sluice:last_seen", "last_seen"),
        ("sluice:devices:active", "devices"),
        ("sluice:rows:0f3a:1", "rows"),
        ("_kombu.binding.db", "_kombu.binding.db"),
    ],
)
def test_keys_of_one_kind_have_one_name(key: str, kind: str) -> None:
    """No name of a device, batch or time is in it."""
    assert kind_of(key) == kind


def test_the_proportional_size_is_read() -> None:
    """Not that of its parts."""
    assert pss("Rss:  900 kB\nPss:   512 kB\nPss_Dirty:  3 kB\n") == 512 * 1024
    assert pss("") == 0
