"""How often Python looks for cyclic garbage in a process that handles millions of messages.

The objects of the stages have no cycles and are freed with their last reference. With Python's own thresholds
the collector visited every message of a batch dozens of times, for a fifth to a third of the CPU time.
"""

import gc

# Thresholds in container objects that are alive: more than a batch has, so that few are visited.
YOUNG, MIDDLE, OLD = 100_000, 20, 20


def tune() -> None:
    """Excludes the present objects from later collections, and makes these rare. Call it before forking."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
