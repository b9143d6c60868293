"""People who move tasks, take that back, send signals, and resolve what is held."""

from typing import Literal

from clientd.keeper.moves.table import Part
from godwit.wire import operations as op
from masterd.moves.flight import Flight
from tests.sim.flights import Luck, World

#: Seconds between two commands.
PAUSES = (0.01, 0.05, 0.2, 0.2, 1.0, 1.0, 3.0, 9.0)


def fly(seed: int, luck: Luck, commands: int = 40, world: type[World] = World, **of: object
        ) -> World:
    """One world: commands under bad luck, then quiet, in which all must settle.

    Raises AssertionError for a broken promise, with what happened before it.
    """
    made = None
    try:
        made = world(seed, luck, **of)  # type: ignore[arg-type]
        made.run(1.0)
        for _ in range(commands):
            command(made)
            made.run(made.now + made.random.choice(PAUSES))
            mishap(made)
        made.settle()
        assert not made.master.unanswered, f"no answer to {made.master.unanswered}"
    except Exception as err:
        trace = "\n".join(made.trace[-120:]) if made is not None else ""
        raise AssertionError(f"{type(err).__name__}: {err}\n{trace}") from err
    return made


def command(world: World) -> None:
    """What somebody asks for."""
    rng, master = world.random, world.master
    task = rng.choice([t for t, known in world.tasks.items() if not known.excused] or ["none"])
    flight = master.flight_of(task)
    what = rng.random()
    if flight is not None and flight.held and what < 0.8:
        resolve(world, flight)
    elif flight is not None and flight.waiting and what < 0.1:
        _, request = flight.waiting[0]
        master.unanswered.discard(request)
        master.ask(op.Cancel(request))
    elif what < 0.25:
        master.ask(op.SignalTasks(master.number(), (task,), 10))
    else:
        on_unknown: Literal["hold", "resume"] = "resume" if rng.random() < 0.3 else "hold"
        master.ask(op.MoveTask(
            master.number(), task, rng.choice(list(world.nodes)), on_unknown=on_unknown
        ))


def resolve(world: World, flight: Flight) -> None:
    """By somebody who looked what has become of it at the destination, or who did not."""
    move = flight.move
    if not move.target or not move.source:
        return
    target, source = world.nodes[move.target], world.nodes[move.source]
    record = target.ledger.moves.get(move.id)
    side: Literal["source", "destination"] = world.random.choice(("source", "destination"))
    if world.random.random() < world.luck.reckless:
        world.tasks[move.task].twice = True
        # What is given up at the source may be all that there was.
        world.tasks[move.task].excused |= side == "destination"
        world.tasks[move.task].again = True
    elif record is not None and record.part is Part.LOST and move.task in source.ledger.tasks:
        side = "source"
    else:
        return
    world.master.ask(op.ResolveMove(world.master.number(), move.id, side))


def mishap(world: World) -> None:
    if not world.bad(world.luck.mishap):
        return
    node = world.random.choice(list(world.nodes.values()))
    match world.random.choice(world.luck.mishaps):
        case "master":
            world.master.die()
        case "keeper":
            node.die("an operator's kill -9")
        case "agent":
            node.agent_dies()
        case "power":
            node.power_cut()
        case "network":
            node.cut("the network")
