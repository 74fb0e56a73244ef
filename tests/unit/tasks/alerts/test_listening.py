"""Since when silence is silence, as the gateways tell it."""

import pytest

from tasks.alerts.listening import GATEWAY_FRESH_MS, Gateway, listening_since

NOW = 1_800_000_000_000
FRESH = NOW - 1000


@pytest.mark.parametrize(
    ("gateways", "since"),
    [
        ([], None),
        ([Gateway(NOW - 50_000, FRESH)], NOW - 50_000),
        ([Gateway(NOW - 50_000, FRESH), Gateway(NOW - 9000, FRESH)], NOW - 9000),
        ([Gateway(0, FRESH)], None),
        ([Gateway(NOW - 50_000, NOW - GATEWAY_FRESH_MS - 1)], None),
        ([Gateway(NOW - 50_000, FRESH), Gateway(NOW - 50_000, NOW - 60_000)], None),
        ([Gateway(NOW - 50_000, NOW + 3000)], NOW - 50_000),
    ],
)
def test_all_gateways_must_listen_without_a_break(gateways: list[Gateway], since: int | None) -> None:
    """The one that came last counts; one that is deaf, or silent itself, makes all silence meaningless."""
    assert listening_since(gateways, NOW) == since
