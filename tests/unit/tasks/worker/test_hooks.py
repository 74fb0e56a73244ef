"""Workers and beat load what hangs on Celery's signals before Celery sends the first of them."""

import subprocess
import sys


def test_a_worker_watches_over_itself() -> None:
    """What Celery imports before a worker or beat begins brings the watch over deaf workers, and the rest."""
    script = "import sys; from tasks import app; app.loader.init_worker(); sys.exit('{}' not in sys.modules)"
    for name in ("stop", "monitoring", "schedule"):
        code = script.format(f"tasks.worker.{name}")
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
