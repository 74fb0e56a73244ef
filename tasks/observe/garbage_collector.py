"""How often Python looks for cyclic garbage in a process through whose hands millions of messages go.

What the stages make holds no cycles and goes when its last reference does. With Python's own thresholds the
collector looked at every message of a batch dozens of times, for a fifth to a third of a process's CPU time.
"""

import gc

# Objects that hold others, made and not yet gone: more than a batch has, so that seldom one is looked at.
YOUNG, MIDDLE, OLD = 100_000, 20, 20


def tune() -> None:
    """Leaves what there is now out of all later looks, and has these come seldom. Call it before forking."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
