"""What hangs on Celery's signals is there as soon as the app is."""

import subprocess
import sys


def test_a_worker_watches_over_itself() -> None:
    """`celery -A tasks` loads the watch over deaf workers, which nothing else would miss."""
    script = "import sys, tasks; sys.exit('tasks.worker' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
