"""What Python needs under libfaketime, which refuses the kind of wait that `time.sleep` is."""

import select
import time
from typing import Any


def sleep(seconds: Any) -> None:
    """Waits, and no more."""
    select.select([], [], [], seconds)


time.sleep = sleep
