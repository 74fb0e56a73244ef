"""Hostile inputs to each decoder; `make fuzz` sends more of them."""

import random

from tests.chaos import fuzz_forms


def test_hostile_inputs_have_an_outcome() -> None:
    """A value or a refusal, soon; and both happen."""
    refused = fuzz_forms.run(500, random.randrange(2**32))
    assert all(0 < number < 500 for name, number in refused.items() if name != "topics")
