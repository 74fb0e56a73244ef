"""The limit on CPU time: it ends what loops, and nothing that waits."""

import signal
import subprocess
import sys
import time

from billiard.common import human_status

from tasks.batch.cpu_limit import cpu_limit, cpu_unlimited, exceeded


def test_a_loop_is_killed() -> None:
    """By the kernel, and the signal says why."""
    loop = "from tasks.batch.cpu_limit import cpu_limit\nwith cpu_limit(0.1):\n    while True: pass"
    ended = subprocess.run([sys.executable, "-c", loop], timeout=60, check=False)
    assert ended.returncode == -signal.SIGPROF
    assert exceeded(RuntimeError(f"Worker exited prematurely: {human_status(ended.returncode)}."))
    assert not exceeded(RuntimeError(f"Worker exited prematurely: {human_status(-signal.SIGKILL)}."))


def test_waiting_costs_nothing() -> None:
    """A process that waits for a server longer than the limit goes on."""
    with cpu_limit(0.2):
        time.sleep(0.4)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_rebuild_does_not_count() -> None:
    """Work inside `cpu_unlimited` may take what it takes, and the limit goes on behind it."""
    with cpu_limit(0.2):
        with cpu_unlimited():
            begun = time.process_time()
            while time.process_time() - begun < 0.4:
                pass
        left, _ = signal.getitimer(signal.ITIMER_PROF)
        assert 0 < left < 0.3  # the kernel counts in ticks
