"""Random schedules with kills, lost and reordered relay frames, Redis stalls, slow and vanishing clients.

The checks are in the simulation: same order everywhere, no gap, no duplicate, no echo, nothing lost,
nothing doubled, every screen equal to the sequencer's fold, everybody sees the same participants.
A seed that ever failed stays here by name.
"""

import pytest

from tests.collaboration.simulation import Chaos, World

CALM = Chaos(loss=0, duplication=0, kills=0, stalls=0, disconnects=0, slow_clients=0)


@pytest.mark.parametrize("seed", range(5))
def test_calm_schedule_converges(seed: int) -> None:
    World(seed, CALM).run()


@pytest.mark.parametrize("block", range(10))
def test_chaotic_schedules_converge(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        try:
            World(seed, Chaos()).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("block", range(5))
def test_schedules_with_a_short_log_converge(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        try:
            World(seed, Chaos(truncation=True, kills=0.8)).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("block", range(5))
def test_schedules_with_frozen_replicas_converge(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        try:
            World(seed, Chaos(freezes=0.15, kills=0.1, seconds=20)).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seed", [75, 321, 340, 389])
def test_schedule_that_failed_once(seed: int) -> None:
    """75: a state came while its queue was full. The others: a stale list of participants stayed after
    a rebase or after a gateway was taken over by a replica that knew more."""
    World(seed, Chaos(truncation=True)).run()


@pytest.mark.parametrize("block", range(5))
def test_replica_loss_is_invisible_to_sockets(block: int) -> None:
    """No socket is given its state a second time because its replica died or its relay failed."""
    for seed in range(block * 10, block * 10 + 10):
        world = World(seed, Chaos(slow_clients=0, kills=0.8, disconnects=0))
        world.queue_limit = 10_000
        world.run()
        assert world.resyncs == 0, f"seed {seed}"
        assert [client.states for client in world.clients] == [1] * len(world.clients), f"seed {seed}"
