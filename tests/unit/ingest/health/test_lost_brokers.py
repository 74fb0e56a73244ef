"""A Kafka client that has lost its brokers is distinguished from a Kafka that is away."""

from ingest.health.lost_brokers import FINDS, LOOK_SECONDS, PATIENCE_SECONDS, LostBrokers


class World:
    """A clock that is set by hand, what the client reaches, and what a new client finds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reachable = True
        self.found = True
        self.looks = 0
        self.lost = LostBrokers(lambda: self.reachable, self._look, lambda: self.now)

    def _look(self) -> bool:
        self.looks += 1
        return self.found

    def after(self, seconds: float) -> bool:
        """The report after this much more time."""
        self.now += seconds
        return self.lost()


def test_a_client_that_reaches_a_broker_has_lost_none() -> None:
    """However long it runs, nobody looks."""
    world = World()
    assert [world.after(60) for _ in range(3)] == [False] * 3
    assert world.looks == 0


def test_it_gets_some_time_to_find_one_by_itself() -> None:
    """Only then new clients are asked, and it takes several that find one."""
    world = World()
    assert not world.after(0)
    world.reachable = False
    assert not world.after(PATIENCE_SECONDS - 1)
    assert world.looks == 0
    assert [world.after(1), *(world.after(LOOK_SECONDS) for _ in range(FINDS - 1))] == [False] * (
        FINDS - 1
    ) + [True]


def test_a_client_that_finds_a_broker_after_a_new_one_did_has_lost_none() -> None:
    """It was only slower, and the next time counts again."""
    world = World()
    world.reachable = False
    assert not world.after(PATIENCE_SECONDS)
    assert not world.after(LOOK_SECONDS)
    world.reachable = True
    assert not world.after(LOOK_SECONDS)
    world.reachable = False
    assert not world.after(PATIENCE_SECONDS)
    assert not world.after(LOOK_SECONDS)


def test_while_kafka_is_away_nothing_is_lost() -> None:
    """A new client is asked again and again, but not at every turn."""
    world = World()
    world.reachable = world.found = False
    assert not any(world.after(0.1) for _ in range(200))
    assert 1 <= world.looks <= 1 + (20 - PATIENCE_SECONDS) / LOOK_SECONDS
    world.found = True
    assert [world.after(LOOK_SECONDS) for _ in range(FINDS)][-1]
