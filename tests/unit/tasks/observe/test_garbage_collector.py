"""How seldom Python looks for garbage in a process that has settled."""

import subprocess
import sys

from tests.conftest import PROJECT

LOOKS = """
import gc
from tasks.observe import garbage_collector

kept = [[number] for number in range(1000)]
garbage_collector.tune()
assert gc.get_freeze_count() > 1000, "what was there before is looked at"

looks = []
gc.callbacks.append(lambda phase, info: looks.append(info["generation"]) if phase == "start" else None)
batch = [[number] for number in range(garbage_collector.YOUNG // 2)]
assert not looks, "a batch alone made it look"
more = [[number] for number in range(garbage_collector.YOUNG * 3)]
assert looks and not any(looks), looks
"""


def test_a_settled_process_looks_at_new_objects_alone_and_seldom() -> None:
    """Objects from before are left out for good; half of the young generation's size begins no look."""
    done = subprocess.run(
        [sys.executable, "-c", LOOKS], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
