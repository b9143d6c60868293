"""Copies of snapshots, schedules and restarts, as the master's core has them: answers that are
lost or late, nodes that go and come, and what is on record of it."""

import hashlib

import pytest
from msgspec.structs import replace

from godwit.task.lifecycle import Status
from godwit.task.record import Snapshot, Spec, Task
from godwit.wire import messages as m
from godwit.wire import operations as op
from masterd import actions as do
from masterd.registry import UNREACHABLE_S
from masterd.schedules import SOON_S
from tests.mastering import FakeNode, Mastering

T = "aaaaaaaa"
SPEC = Spec(T, (b"P", b"1"), kind="python", home="n1")
ONE = Snapshot("ssssss01", SPEC, 1.0, 100, 50)
TWO = Snapshot("ssssss02", SPEC, 2.0, 200, 60)


class World(Mastering):
    """n1 has the task; n2 and n3 are there."""

    def __init__(self, status: Status = Status.RUNNING, *more: str):
        super().__init__()
        self.nodes: dict[str, FakeNode] = {}
        for name in ("n1", "n2", "n3", *more):
            tasks = (Task(SPEC, status, pid=7, exit_code=0),) if name == "n1" else ()
            self.come(name, *tasks)

    def come(self, name: str, *tasks: Task, lodging: tuple[str, ...] = ()) -> FakeNode:
        node = self.nodes.get(name) or FakeNode(self, name, f"id of {name}")
        self.nodes[name] = node
        node.join()
        node.say(m.Report(tasks))
        node.say(m.Lodging(lodging))
        return node

    def to(self, name: str, kind: type[m.Message]) -> list[m.Message]:
        """What the last step sent to a node, of this kind."""
        return [
            action.message for action in self.last if isinstance(action, do.Send)
            and action.link == self.nodes[name].control and isinstance(action.message, kind)
        ]

    def checkpoint(self, every_s: float = 0.0) -> Snapshot:
        """As far as the task's node has it."""
        self.ask(op.CheckpointTask(5, T, every_s=every_s))
        return self.checkpointed()

    def checkpointed(self) -> Snapshot:
        (order,) = self.to("n1", m.Checkpoint)
        assert isinstance(order, m.Checkpoint)
        taken = replace(ONE, id=order.snapshot)
        self.nodes["n1"].say(m.Snapshots(order.order, (taken,)))
        return taken

    def lodge(self, name: str) -> m.Lodge:
        """What the node was asked just now."""
        (order,) = self.to(name, m.Lodge)
        assert isinstance(order, m.Lodge)
        return order

    def carried(self, name: str) -> None:
        """The snapshot that the node was told of comes there."""
        order = self.lodge(name)
        self.nodes[name].say(m.Listening(order.order, 77))
        self.nodes[name].say(m.Lodging((T,)))
        self.nodes[name].say(m.Snapshots(order.order, (order.snapshot,)))

    def copied(self, name: str = "n2") -> Snapshot:
        taken = self.checkpoint()
        self.carried(name)
        return taken

    def restart(self, request: op.RestartTask, **found: tuple[Snapshot, ...]) -> None:
        """Asked, and each node has told what it has."""
        self.ask(request)
        for action in list(self.last):
            if isinstance(action, do.Send) and isinstance(action.message, m.ListSnapshots):
                (name,) = [n for n, node in self.nodes.items() if node.control == action.link]
                self.nodes[name].say(m.Snapshots(action.message.order, found[name]))

    def lose(self, name: str) -> None:
        """It is cut off for so long that it is unreachable."""
        self.nodes[name].cut()
        others = [node for n, node in self.nodes.items() if n != name]
        self.wait(UNREACHABLE_S + 1, *others)


# ---- a copy on one peer --------------------------------------------------------------------


def test_a_snapshot_is_copied_straight_to_another_node_and_then_told_of() -> None:
    world = World()
    taken = world.checkpoint()
    assert world.replies() == []
    order = world.lodge("n2")
    assert (order.snapshot, order.keep, order.leaves) == (taken, 3, ("leaf of n1",))
    assert do.KeepLodger(T, "n2", "more") in world.last
    kinds = [type(action) for action in world.last if not isinstance(action, do.Confirm)]
    assert kinds.index(do.Commit) < kinds.index(do.Send)
    world.nodes["n2"].say(m.Listening(order.order, 77))
    (give,) = world.to("n1", m.Give)
    assert isinstance(give, m.Give)
    assert (give.task, give.snapshot, give.address, give.ticket, give.leaves) == (
        T, taken.id, "10.0.0.1:77", order.ticket, ("leaf of n2",)
    )
    world.nodes["n1"].say(m.Done(give.order))
    assert world.replies() == []
    world.nodes["n2"].say(m.Snapshots(order.order, (taken,)))
    assert world.replies() == [op.Snapshots(
        5, (op.SnapshotView(taken.id, T, ("n1", "n2"), "python", 1.0, 100, 50),)
    )]
    assert do.KeepLodger(T, "n2", "peer") in world.last


def test_the_next_goes_to_the_same_node_though_another_is_used_less() -> None:
    world = World()
    world.nodes["n2"].say(m.Changed((Task(Spec("bbbbbbbb", (b"x",), home="n2"),
                                          Status.RUNNING, pid=8),)))
    world.checkpoint()
    world.carried("n3")
    world.nodes["n3"].say(m.Changed(tuple(
        Task(Spec(f"cccccc0{n}", (b"x",), home="n3"), Status.RUNNING, pid=n) for n in range(1, 5)
    )))
    world.checkpoint()
    assert world.to("n2", m.Lodge) == [] and world.lodge("n3").snapshot.spec.task == T


@pytest.mark.parametrize("answer", ["refused", "late", "lost", "other", "cannot reach"])
def test_where_it_cannot_go_the_next_node_is_asked(answer: str) -> None:
    world = World()
    world.checkpoint()
    order = world.lodge("n2")
    node = world.nodes["n2"]
    if answer == "refused":
        node.say(m.Done(order.order, "policy", "not here"))
    elif answer == "late":
        world.wait(31.0, *world.nodes.values())
    elif answer == "lost":
        node.cut()
    elif answer == "other":
        node.say(m.Snapshots(order.order, (TWO,)))
    else:
        node.say(m.Listening(order.order, 77))
        (give,) = world.to("n1", m.Give)
        assert isinstance(give, m.Give)
        world.nodes["n1"].say(m.Done(give.order, "unreachable", "no route"))
        assert world.to("n2", m.Abandon) == [m.Abandon(order.order)]
    again = next(
        action.message for action in world.all if isinstance(action, do.Send)
        and isinstance(action.message, m.Lodge) and action.link == world.nodes["n3"].control
    )
    world.nodes["n3"].say(m.Snapshots(again.order, (again.snapshot,)))
    (told,) = world.replies()
    assert isinstance(told, op.Snapshots) and told.snapshots[0].nodes == ("n1", "n3")
    # A late answer of the first changes nothing.
    node.say(m.Snapshots(order.order, (order.snapshot,)))
    assert world.replies() == []


def test_that_no_node_took_it_is_said_with_all_reasons_and_the_snapshot_is_kept() -> None:
    world = World()
    world.checkpoint()
    for name in ("n2", "n3"):
        order = world.lodge(name)
        world.nodes[name].say(m.Done(order.order, "no-space", "full"))
    (told,) = world.replies()
    assert isinstance(told, op.Snapshots)
    assert told.remarks == ("kept on n1 only: n2: full; n3: full",)
    assert told.snapshots[0].nodes == ("n1",)
    assert world.core.lodging.records == {}


def test_a_node_that_could_not_run_it_or_is_too_old_is_not_asked() -> None:
    world = Mastering()
    task = Task(SPEC, Status.RUNNING, pid=7)
    one = world.node("n1", task)
    one.say(m.Lodging(()))
    world.node("n2")  # it says nothing of lodging
    other = FakeNode(world, "n3", "id of n3")
    other.can = ("shell",)
    other.join()
    other.say(m.Report(()))
    other.say(m.Lodging(()))
    world.ask(op.CheckpointTask(5, T))
    (order,) = world.sends(m.Checkpoint)
    one.say(m.Snapshots(order.order, (replace(ONE, id=order.snapshot),)))
    (told,) = world.replies()
    assert isinstance(told, op.Snapshots)
    assert told.remarks == ("kept on n1 only: no other node that is up can run it",)


def test_another_peer_takes_the_place_of_one_that_is_away_which_drops_what_it_has() -> None:
    world = World()
    world.copied("n2")
    world.lose("n2")
    world.checkpoint()
    world.carried("n3")
    assert do.KeepLodger(T, "n2", "gone") in world.last
    world.come("n2", lodging=(T,))
    (order,) = world.to("n2", m.Unlodge)
    assert isinstance(order, m.Unlodge) and order.tasks == (T,)
    world.nodes["n2"].say(m.Lodging(()))
    assert world.last == [do.DropLodger(T, "n2")]


def test_a_task_that_is_removed_takes_its_copies_along_also_where_a_node_is_away() -> None:
    world = World()
    world.copied("n2")
    world.lose("n2")
    world.ask(op.ForgetTasks(6, (T,)))
    world.nodes["n1"].say(m.Forgotten((T,)))
    assert do.KeepLodger(T, "n2", "gone") in world.all
    world.come("n2", lodging=(T,))
    assert [order.tasks for order in world.to("n2", m.Unlodge)  # type: ignore[attr-defined]
            ] == [(T,)]


def test_a_task_that_went_out_of_sight_keeps_its_copies_and_can_be_asked_about() -> None:
    world = World()
    world.copied("n2")
    world.lose("n1")
    world.ask(op.Deregister(6, "n1"))
    world.come("n1")  # a machine with an empty disk, under the same name
    assert T not in world.core.registry.where
    assert world.core.lodging.records[T] == {"n2": "peer"}
    (refused,) = world.ask(op.RestartTask(7, T[:4]))
    assert isinstance(refused, op.Problem) and "--lost" in refused.hint
    world.restart(op.RestartTask(7, T[:4], lost=True), n2=(ONE,))
    assert [launch.spec.snapshot for launch in launches(world).values()] == [ONE.id]
    world.ask(op.ListSnapshots(7, T))
    assert len(world.to("n2", m.ListSnapshots)) == 1
    (views,) = world.ask(op.ForgetTasks(8, (T,)))
    assert isinstance(views, op.Tasks) and views.tasks[0].task.id == T
    assert len(world.to("n2", m.Unlodge)) == 1


@pytest.mark.parametrize("order", [("n1", "n2"), ("n2", "n1")])
def test_the_tasks_own_node_is_named_first_whichever_answers_first(order: tuple[str, str]) -> None:
    world = World()
    taken = world.copied("n2")
    world.ask(op.ListSnapshots(7, T))
    asked = {name: world.to(name, m.ListSnapshots)[0] for name in order}
    for name in order:
        asking = asked[name]
        assert isinstance(asking, m.ListSnapshots)
        world.nodes[name].say(m.Snapshots(asking.order, (taken,)))
    (told,) = world.replies()
    assert isinstance(told, op.Snapshots) and told.snapshots[0].nodes == ("n1", "n2")


def test_a_source_text_is_kept_as_long_as_a_task_or_a_copy_of_its_snapshot_needs_it() -> None:
    world, text = World(), b"class P: ..."
    digest = hashlib.sha256(text).hexdigest()
    world.ask(op.Execute(3, "n1", (b"P",), kind="python", source=text))
    (launch,) = world.to("n1", m.Launch)
    assert isinstance(launch, m.Launch)
    spec = replace(launch.spec, task=launch.tasks[0])
    world.nodes["n1"].say(m.Changed((Task(spec, Status.RUNNING, pid=8),)))
    one = Snapshot("ssssss03", spec, 1.0, 100, 50)
    world.ask(op.CheckpointTask(5, spec.task))
    (order,) = world.to("n1", m.Checkpoint)
    assert isinstance(order, m.Checkpoint)
    world.nodes["n1"].say(m.Snapshots(order.order, (replace(one, id=order.snapshot),)))
    lodge = world.lodge("n2")
    world.nodes["n2"].say(m.Lodging((spec.task,)))
    world.nodes["n2"].say(m.Snapshots(lodge.order, (lodge.snapshot,)))
    assert do.KeepLodger(spec.task, "n2", "peer", digest) in world.all
    world.lose("n1")
    world.ask(op.Deregister(6, "n1"))
    world.come("n1")  # with an empty disk
    assert spec.task not in world.core.registry.where and world.core.sources.texts
    world.restart(op.RestartTask(7, spec.task, lost=True), n2=(one,))
    (again,) = world.to("n2", m.Launch)
    assert isinstance(again, m.Launch) and again.source == text
    world.nodes["n2"].say(m.Rejected(again.tasks, "policy", "no"))
    assert world.core.sources.texts
    world.ask(op.ForgetTasks(8, (spec.task,)))
    world.nodes["n2"].say(m.Lodging(()))
    assert do.DropSource(digest) in world.last and not world.core.sources.texts


def test_a_copy_that_arrives_after_its_task_was_removed_is_dropped() -> None:
    world = World()
    world.checkpoint()
    order = world.lodge("n2")
    world.nodes["n1"].say(m.Forgotten((T,)))
    world.nodes["n2"].say(m.Snapshots(order.order, (order.snapshot,)))
    assert len(world.to("n2", m.Unlodge)) == 1
    assert world.core.lodging.records[T] == {"n2": "gone"}


def test_what_nodes_tell_outlives_a_master_without_its_records() -> None:
    world = World()
    world.come("n2", lodging=(T,))
    assert do.KeepLodger(T, "n2", "more") in world.all
    assert [node.name for node in world.core.lodging.nodes(T)] == ["n2"]


def test_a_node_cannot_answer_for_another_nor_open_a_port_for_it() -> None:
    world = World()
    world.checkpoint()
    order = world.lodge("n2")
    world.nodes["n3"].say(m.Listening(order.order, 77))
    world.nodes["n3"].say(m.Snapshots(order.order, (order.snapshot,)))
    assert world.sends(m.Give) == [] and world.replies() == []


# ---- restart and fork ----------------------------------------------------------------------


def launches(world: World) -> dict[str, m.Launch]:
    by_link = {node.control: name for name, node in world.nodes.items()}
    return {
        by_link[action.link]: action.message for action in world.last
        if isinstance(action, do.Send) and isinstance(action.message, m.Launch)
    }


def test_a_task_whose_node_is_away_is_started_from_the_copy_once_it_is_said_to_be_lost() -> None:
    world = World()
    taken = world.copied("n2")
    world.lose("n1")
    (refused,) = world.ask(op.RestartTask(5, T))
    assert isinstance(refused, op.Problem) and refused.code == "not-ended"
    assert "--lost" in refused.hint
    world.restart(op.RestartTask(5, T, lost=True), n2=(taken,))
    (name,) = launches(world)
    launch = launches(world)[name]
    assert name == "n2" and launch.spec.snapshot == taken.id and launch.tasks != (T,)
    heir = launch.tasks[0]
    spec = replace(launch.spec, task=heir)
    world.nodes["n2"].say(m.Changed((Task(spec, Status.RUNNING, pid=9),)))
    assert do.KeepHeir(T, heir) in world.last
    # It comes back, and runs: it is ended there.
    world.come("n1", Task(SPEC, Status.RUNNING, pid=7))
    (ended,) = [a.message for a in world.all if isinstance(a, do.Send)
                and isinstance(a.message, m.Signal)]
    assert (ended.tasks, ended.number, ended.whole) == ((T,), 9, True)
    world.nodes["n1"].say(m.Changed((Task(SPEC, Status.EXITED, pid=7, signal=9),)))
    assert do.DropHeir(T) in world.last


@pytest.mark.parametrize("lost", [False, True])
def test_a_task_that_is_heard_to_run_is_not_started_again_whatever_is_said(lost: bool) -> None:
    world = World()
    (refused,) = world.ask(op.RestartTask(5, T, lost=lost))
    assert isinstance(refused, op.Problem) and refused.code == "not-ended"
    assert world.sends(m.ListSnapshots) == []


def test_a_node_that_has_it_not_gets_it_first_and_keeps_it_no_longer_than_it_must() -> None:
    world = World(Status.EXITED)
    world.restart(op.RestartTask(5, T, nodes=("n3",)), n1=(ONE, TWO))
    assert launches(world) == {}
    world.carried("n3")
    (launch,) = launches(world).values()
    assert launch.spec.snapshot == TWO.id
    spec = replace(launch.spec, task=launch.tasks[0])
    world.nodes["n3"].say(m.Changed((Task(spec, Status.RUNNING, pid=9),)))
    (dropped,) = world.to("n3", m.Unlodge)
    assert isinstance(dropped, m.Unlodge)
    assert (dropped.tasks, dropped.snapshots) == ((), (TWO.id,))


def test_forks_start_where_the_snapshot_came_and_the_others_are_named() -> None:
    world = World(Status.RUNNING, "n4")
    world.restart(
        op.RestartTask(5, T, fork=True, count=2, nodes=("@n1,n2", "n3", "n2")), n1=(ONE,)
    )
    two, three = world.lodge("n2"), world.lodge("n3")
    world.nodes["n2"].say(m.Snapshots(two.order, (ONE,)))
    assert launches(world) == {}
    world.nodes["n3"].say(m.Done(three.order, "no-space", "full"))
    found = launches(world)
    assert {name: len(launch.tasks) for name, launch in found.items()} == {"n1": 2, "n2": 2}
    for name, launch in found.items():
        world.nodes[name].say(m.Changed(tuple(
            Task(replace(launch.spec, task=task), Status.RUNNING, pid=9) for task in launch.tasks
        )))
    (told,) = world.replies()
    assert isinstance(told, op.Tasks) and len(told.tasks) == 4
    assert [(fault.about, fault.code) for fault in told.faults] == [("n3", "no-space")]
    assert world.is_idle()


def test_two_starts_at_one_node_fetch_it_once_and_the_last_one_drops_it() -> None:
    world = World(Status.EXITED)
    world.restart(op.RestartTask(5, T, fork=True, nodes=("n3",)), n1=(ONE,))
    order = world.lodge("n3")
    world.restart(op.RestartTask(6, T, fork=True, nodes=("n3",)), n1=(ONE,))
    assert world.to("n3", m.Lodge) == []
    world.nodes["n3"].say(m.Snapshots(order.order, (ONE,)))
    first, second = world.sends(m.Launch)
    for launch, dropped in ((first, 0), (second, 1)):
        spec = replace(launch.spec, task=launch.tasks[0])
        world.nodes["n3"].say(m.Changed((Task(spec, Status.RUNNING, pid=9),)))
        assert len(world.to("n3", m.Unlodge)) == dropped


def test_a_restart_at_several_nodes_is_refused_and_so_is_one_that_nobody_has() -> None:
    world = World(Status.EXITED)
    (refused,) = world.ask(op.RestartTask(5, T, nodes=("all",)))
    assert isinstance(refused, op.Problem) and refused.exit_status == 2
    world.lose("n1")
    (refused,) = world.ask(op.RestartTask(5, T))
    assert isinstance(refused, op.Problem) and refused.code == "unreachable"
    assert "away: n1" in refused.message


# ---- schedules -----------------------------------------------------------------------------


def scheduled() -> World:
    world = World()
    world.checkpoint(every_s=10.0)
    world.carried("n2")
    assert do.KeepSchedule(T, 10.0, 3) in world.last
    return world


def beats(world: World, seconds: float, *names: str) -> int:
    """Checkpoints that are asked for in so many seconds."""
    done = world.wait(seconds, *(world.nodes[n] for n in names or world.nodes))
    return sum(isinstance(a, do.Send) and isinstance(a.message, m.Checkpoint) for a in done)


def test_a_schedule_is_recorded_once_the_first_snapshot_is_there_and_shown() -> None:
    world = scheduled()
    (told,) = [a.reply for a in world.all if isinstance(a, do.Answer)
               and isinstance(a.reply, op.Snapshots)]
    assert (told.every_s, told.keep) == (10.0, 3)
    (nodes,) = world.ask(op.ListTasks(6, (T,)))
    assert isinstance(nodes, op.Tasks) and nodes.tasks[0].every_s == 10.0


def test_one_whose_first_snapshot_fails_is_not_recorded() -> None:
    world = World()
    world.ask(op.CheckpointTask(5, T, every_s=10.0))
    (order,) = world.sends(m.Checkpoint)
    world.nodes["n1"].say(m.Done(order.order, "cannot-travel", "self.x: a lock"))
    assert world.core.schedules.all == {} and world.done(do.KeepSchedule) == []


def test_while_one_is_being_taken_beats_are_left_out_and_not_made_up_for() -> None:
    world = scheduled()
    assert beats(world, 35.0) == 1
    taken = world.core.orders
    (number,) = [n for n, p in taken._pending.items() if p.wanted is m.Snapshots]
    world.nodes["n1"].say(m.Done(number, "stuck", "it stood still for too long"))
    assert beats(world, 10.0) == 1


def test_what_is_wrong_is_told_once_and_that_it_is_over() -> None:
    world = scheduled()
    told = []
    for outcome in ("a lock", "a lock", "a lock", "", ""):
        assert beats(world, 10.0) == 1
        order = next(p for p in reversed(world.all) if isinstance(p, do.Send)
                     and isinstance(p.message, m.Checkpoint)).message
        if outcome:
            world.nodes["n1"].say(m.Done(order.order, "cannot-travel", outcome))
        else:
            taken = replace(ONE, id=order.snapshot)
            world.nodes["n1"].say(m.Snapshots(order.order, (taken,)))
            told += [a.event.text for a in world.done(do.KeepEvent)]
            world.carried("n2")
        told += [action.event.text for action in world.done(do.KeepEvent)]
    assert told == [
        f"no whole snapshot of {T}, as is due each 10 s: n1: a lock",
        f"snapshots of {T} are taken again",
    ]


@pytest.mark.parametrize("code", ["moving", "paused", "ended"])
def test_that_it_cannot_be_just_now_is_no_fault(code: str) -> None:
    world = scheduled()
    assert beats(world, 10.0) == 1
    order = next(a.message for a in reversed(world.all) if isinstance(a, do.Send)
                 and isinstance(a.message, m.Checkpoint))
    world.nodes["n1"].say(m.Done(order.order, code, "not now"))
    assert world.done(do.KeepEvent) == []


def test_a_schedule_waits_for_a_node_that_is_away_and_goes_on_with_it() -> None:
    world = scheduled()
    world.lose("n1")
    assert beats(world, 60.0, "n2", "n3") == 0
    world.come("n1", Task(SPEC, Status.RUNNING, pid=7))
    assert beats(world, 10.0) == 1


def test_a_schedule_outlives_the_master_and_ends_with_its_task() -> None:
    before = scheduled()
    world = World()
    records = [a for a in before.all if isinstance(a, do.KeepSchedule)]
    assert list(world.core.schedules.load(records, world.now)) == []
    assert world.core.schedules.deadline() <= world.now + SOON_S
    assert beats(world, 10.0) == 1
    world.nodes["n1"].say(m.Changed((Task(SPEC, Status.EXITED, pid=7, exit_code=0),)))
    assert do.DropSchedule(T) in world.last and world.core.schedules.all == {}
    gone = Mastering()
    assert list(gone.core.schedules.load(records, 0.0)) == [do.DropSchedule(T)]


def test_a_schedule_is_stopped_by_a_word_and_there_is_none_to_stop_then() -> None:
    world = scheduled()
    (told,) = world.ask(op.CheckpointTask(6, T, stop=True))
    assert isinstance(told, op.Ok) and do.DropSchedule(T) in world.last
    (refused,) = world.ask(op.CheckpointTask(7, T, stop=True))
    assert isinstance(refused, op.Problem) and refused.code == "no-schedule"
    assert beats(world, 30.0) == 0


@pytest.mark.parametrize("every_s", [0.5, -1.0, 1e9])
def test_a_time_out_of_bounds_is_wrong_usage(every_s: float) -> None:
    (answer,) = World().ask(op.CheckpointTask(5, T, every_s=every_s))
    assert isinstance(answer, op.Problem) and answer.exit_status == 2


def test_a_paused_task_is_left_alone() -> None:
    world = scheduled()
    world.nodes["n1"].say(m.Changed((Task(SPEC, Status.PAUSED, pid=7),)))
    assert beats(world, 30.0) == 0
