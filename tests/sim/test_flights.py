"""Many seeds of a task that moves through bad luck: never two copies, never none."""

import pytest

from tests.sim.flights import Luck, World, is_held, move, settled

#: Worlds in one test run.
SEEDS = 400
CALM = Luck(0, 0, 0, 0, 0, 0)


def fly(seed: int, luck: Luck | None = None, moves: int = 12) -> World:
    """One world: moves under bad luck, then quiet, in which all must settle."""
    world = World(seed, luck=luck)
    world.tick()
    try:
        until = 1.0
        world.run(until)
        for _ in range(moves):
            move(world, world.random.choice(list(world.nodes)))
            until += world.random.choice((0.05, 0.2, 1.0, 3.0))
            world.run(until)
            mishap(world)
        world.calm = True
        world.run(until + 60.0)
        assert settled(world) or is_held(world), "a move has not settled"
        check_owner(world)
    except BaseException:
        print("\n".join(world.trace[-120:]))
        raise
    return world


def mishap(world: World) -> None:
    if world.luck == CALM:
        return
    node = world.random.choice(list(world.nodes.values()))
    what = world.random.random()
    if what < 0.1:
        world.master.die()
    elif what < 0.25:
        node.die("an operator's kill -9")
    elif what < 0.4:
        node.agent_dies()
    elif what < 0.45:
        node.power_cut()
    elif what < 0.6:
        node.cut("the network")


def check_owner(world: World) -> None:
    """In the end one copy runs, at the node that the master says; or the task was lost with a
    machine's power, or it is held."""
    running = [
        name for name, node in world.nodes.items()
        if node.machine.process and node.machine.process.state == "running"
    ]
    if world.excused or is_held(world):
        return
    assert len(running) == 1, f"running: {running}"
    owner = world.master.core.registry.where["t0000001"].name
    assert running == [owner], f"it runs on {running}, the master says {owner}"
    assert list(world.said) == list(range(len(world.said)))


@pytest.mark.parametrize("start", range(0, SEEDS, 100))
def test_no_luck_is_so_bad_that_a_task_is_doubled_or_lost(start: int) -> None:
    for seed in range(start, start + 100):
        fly(seed)


def test_without_bad_luck_every_move_is_done() -> None:
    for seed in range(30):
        world = fly(seed, CALM)
        states = {m.state.value for m in world.master.moves.values()}
        assert states == {"done"}, states
