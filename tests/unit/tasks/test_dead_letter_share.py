"""The share of dead letters: when it is high, for how long, and what is made of the counters."""

from tasks.dead_letter_share import FEWEST, Sample, Share, between


def sample(received: int, dead: int, **types: int) -> Sample:
    """Totals at some time."""
    return Sample(0.0, received, dead, types)


def test_the_share_is_that_of_the_window() -> None:
    """Letters before the window do not count, and the most frequent error type comes first."""
    share = between(sample(1000, 900, InvalidJson=900), sample(2000, 1000, InvalidJson=910, Unexpected=90))
    assert (share.received, share.dead, share.value) == (1000, 100, 0.1)
    assert share.types == ["Unexpected", "InvalidJson"]


def test_counters_that_start_anew_are_no_share() -> None:
    """After a flushed Redis the totals are smaller than before; nothing can be said until the next sample."""
    assert between(sample(1000, 50), sample(10, 10)) == Share(0, 0, [])
    assert Share(0, 0, []).value == 0.0


def test_a_few_dead_letters_are_no_episode() -> None:
    """Without much traffic a single bad device would be a large share."""
    assert not Share(FEWEST - 1, FEWEST - 1, []).is_high(0.05, before=False)
    assert Share(FEWEST, FEWEST, []).is_high(0.05, before=False)


def test_an_episode_lasts_until_the_share_is_below_half_of_the_limit() -> None:
    """So a share that swings around the limit is reported once."""
    assert not Share(1000, 40, []).is_high(0.05, before=False)
    assert Share(1000, 60, []).is_high(0.05, before=False)
    assert Share(1000, 40, []).is_high(0.05, before=True)
    assert not Share(1000, 25, []).is_high(0.05, before=True)
    assert not Share(0, 0, []).is_high(0.05, before=True)
