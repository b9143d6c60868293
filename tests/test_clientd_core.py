"""The agent's brain: events in, exact actions out."""

import itertools
from collections.abc import Callable

import pytest

from clientd import actions as do
from clientd import core
from clientd import events as on
from clientd.core import TABLE, Agent, Cause, Identity, Relation
from clientd.keeper import orders
from godwit.task.lifecycle import Status
from godwit.task.record import Spec, Task, Usage
from godwit.task.verdict import Place, Traits
from godwit.wire import messages as m

FACTS = orders.Facts("n1", "/state", "/logs", "boot", master="hub:15440", can=("shell",))
ORPHAN = orders.Facts("n1", "/state", "/logs", "boot", listen="0.0.0.0:5", can=("shell",))
CONTROL, STREAM, FAR = 1, 2, float("inf")


def task(name: str, status: Status = Status.RUNNING, pid: int | None = 7) -> Task:
    return Task(Spec(name, (b"true",)), status, pid, log=f"/logs/{name}")


def hello(channel: on.Channel = "control", master: str = "") -> m.Hello:
    return m.Hello(
        m.VERSION, "n1", "node", "run", channel, master, "boot", ("shell",), system="Linux"
    )


class Driver:
    """An agent, its clock, and what it did last."""

    def __init__(self, facts: orders.Facts = FACTS, *tasks: Task, master: str = ""):
        self.now = 100.0
        self.agent = Agent(Identity("node", "run", master, "Linux"), lambda: 1.0)
        self.tell(facts)
        self.began = self.tell(orders.Known(tasks))

    def __call__(self, event: on.Event, after: float = 0.0) -> list[do.Action]:
        self.now += after
        return self.agent.handle(event, self.now)

    def tell(self, word: orders.Word) -> list[do.Action]:
        return self(on.KeeperTold(word))

    def hear(self, message: m.Message, link: int = CONTROL) -> list[do.Action]:
        return self(on.Received(link, message))

    def tick(self) -> list[do.Action]:
        """Sleeps till the deadline that the core named."""
        deadline = self.agent.deadline()
        assert self.now <= deadline < FAR, "a deadline that has passed spins, none sleeps for ever"
        self.now = deadline
        return self(on.Tick())

    def join(self, stream: bool = True) -> list[do.Action]:
        self(on.LinkOpened(CONTROL, "control"))
        done = self.hear(m.Welcome("M"))
        if stream:
            self(on.LinkOpened(STREAM, "stream"))
            done += self.hear(m.Welcome("M"), STREAM)
        return done


def joined(*tasks: Task, stream: bool = True) -> Driver:
    driver = Driver(FACTS, *tasks)
    driver.join(stream)
    return driver


def sent(*messages: m.Message, link: int = CONTROL) -> list[do.Action]:
    return [do.Send(link, message) for message in messages]


# ---- the relation --------------------------------------------------------------------------

STEPS = {
    (Relation.APART, Cause.CALLED): Relation.CALLING,
    (Relation.APART, Cause.ANSWERED): Relation.GREETING,
    (Relation.CALLING, Cause.ANSWERED): Relation.GREETING,
    (Relation.CALLING, Cause.LOST): Relation.APART,
    (Relation.GREETING, Cause.WELCOMED): Relation.JOINED,
    (Relation.GREETING, Cause.LOST): Relation.APART,
    (Relation.JOINED, Cause.LOST): Relation.APART,
}


@pytest.mark.parametrize(("relation", "cause"), [*itertools.product(Relation, Cause)])
def test_a_relations_step_is_in_the_table_or_refused(relation: Relation, cause: Cause) -> None:
    assert TABLE[relation].get(cause) is STEPS.get((relation, cause))


# ---- joining -------------------------------------------------------------------------------


def test_an_agent_calls_when_it_knows_all_tasks() -> None:
    driver = Driver()
    assert driver.began == [do.Dial("control", "hub", 15440)]
    assert driver.agent.control.relation is Relation.CALLING


def test_nothing_is_done_before_the_keeper_has_told_all() -> None:
    agent = Agent(Identity("node", "run", "", "Linux"), lambda: 0.0)
    assert agent.handle(on.Tick(), 5.0) == [] and agent.deadline() == FAR
    assert agent.handle(on.KeeperTold(FACTS), 5.0) == []
    assert agent.handle(on.KeeperTold(orders.Known((), last=False)), 5.0) == []
    assert agent.handle(on.Tick(), 50.0) == [] and agent.deadline() == FAR


def test_joining_is_hello_welcome_report_and_the_stream() -> None:
    driver = Driver(FACTS, task("aaaaaaaa"))
    assert driver(on.LinkOpened(CONTROL, "control")) == sent(hello())
    assert driver.hear(m.Welcome("M", beat_s=3.0)) == [
        do.Open(CONTROL, "control"), do.Remember("M"), do.Say("info", "joined the master"),
        *sent(m.Report((task("aaaaaaaa"),))), do.Dial("stream", "hub", 15440),
    ]
    assert driver(on.LinkOpened(STREAM, "stream")) == sent(hello("stream", "M"), link=STREAM)
    assert driver.hear(m.Welcome("M"), STREAM) == [do.Open(STREAM, "stream")]
    assert driver.tick() == [do.TakeLoad(("aaaaaaaa",))]
    assert driver(on.LoadTaken(m.Load(cpus=2))) == sent(m.Beat(m.Load(cpus=2)))
    assert driver.agent.deadline() == driver.now + 3.0


def test_a_report_of_many_tasks_is_cut() -> None:
    tasks = [task(f"a{i:07}") for i in range(600)]
    driver = Driver(FACTS, *tasks)
    reports = [a.message for a in driver.join(False)
               if isinstance(a, do.Send) and isinstance(a.message, m.Report)]
    assert [len(report.tasks) for report in reports] == [256, 256, 88]
    assert [report.last for report in reports] == [False, False, True]
    assert [t for report in reports for t in report.tasks] == tasks


def test_a_report_of_long_commands_fits_into_frames() -> None:
    long = [Task(Spec(f"a{i:07}", (b"x" * 900_000,)), Status.RUNNING) for i in range(9)]
    driver = Driver(FACTS, *long)
    sizes = [len(m.encode(a.message)) for a in driver.join(False) if isinstance(a, do.Send)]
    assert max(sizes) < 2_000_000 and sum(sizes) > 9 * 900_000


def test_no_tasks_are_reported_too() -> None:
    assert do.Send(CONTROL, m.Report(())) in Driver().join()


def test_failed_calls_are_repeated_later_each_time_and_said_once() -> None:
    driver = Driver()
    pauses, said = [], []
    for _ in range(10):
        called = driver.now
        said += [a for a in driver(on.DialFailed("control", "refused")) if isinstance(a, do.Say)]
        assert driver.tick() == [do.Dial("control", "hub", 15440)]
        pauses.append(round(driver.now - called, 3))
    assert pauses == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0, 15.0]
    assert said == [do.Say("warning", "the master is away (refused); calling again")]


def test_a_master_that_never_answers_a_hello_is_called_anew() -> None:
    driver = Driver()
    driver(on.LinkOpened(CONTROL, "control"))
    assert driver.tick() == [
        do.Close(CONTROL, "no answer to our greeting"),
        do.Say("warning", "the master is away (no answer to our greeting); calling again"),
    ]
    assert driver.now == 100.0 + core.GREETING_S
    assert driver(on.LinkClosed(CONTROL, "late")) == []
    assert driver.tick() == [do.Dial("control", "hub", 15440)]


def test_a_refused_node_calls_again_after_a_while() -> None:
    driver = Driver()
    driver(on.LinkOpened(CONTROL, "control"))
    reason = "the master refuses this node: no"
    assert driver.hear(m.Refuse("taken", "no")) == [do.Close(CONTROL, reason)]
    assert driver(on.LinkClosed(CONTROL, reason)) == [
        do.Say("warning", f"the master is away ({reason}); calling again")
    ]
    assert driver.agent.deadline() - driver.now > 3.0
    assert driver.tick() == [do.Dial("control", "hub", 15440)]


@pytest.mark.parametrize("message", [
    m.Heard(), m.Launch(Spec("", (b"true",)), ("aaaaaaaa",)), m.Dismiss(1), m.Adopt(1, "M", "n1"),
])
def test_orders_before_the_welcome_end_the_link(message: m.Message) -> None:
    driver = Driver()
    driver(on.LinkOpened(CONTROL, "control"))
    name = type(message).__name__
    assert driver.hear(message) == [do.Close(CONTROL, f"{name} before the welcome")]


def test_a_second_welcome_changes_nothing() -> None:
    driver = joined()
    assert driver.hear(m.Welcome("other")) == [] and driver.agent.master == "M"


def test_a_master_that_wants_beats_without_pause_gets_some_pause() -> None:
    for beat in (0.0, -1.0, float("nan")):
        driver = Driver()
        driver(on.LinkOpened(CONTROL, "control"))
        driver.hear(m.Welcome("M", beat_s=beat))
        driver.tick()
        assert driver.agent.deadline() >= driver.now + core.BEAT_LEAST_S


# ---- losing the master ---------------------------------------------------------------------


def test_a_lost_control_link_takes_the_stream_along_at_once() -> None:
    driver = joined()
    assert driver(on.LinkClosed(CONTROL, "reset")) == [
        do.Close(STREAM, "the control connection is gone"),
        do.Say("warning", "the master is away (reset); calling again"),
    ]
    assert driver.tick() == [do.Dial("control", "hub", 15440)]
    assert driver.now < 100.2 + 1e-6
    assert do.Dial("stream", "hub", 15440) in driver.join(False)
    assert driver(on.LinkClosed(STREAM, "at last")) == []


def test_a_lost_stream_link_alone_is_called_again() -> None:
    driver = joined()
    lost = do.Say("info", "lost the stream to the master (reset)")
    assert driver(on.LinkClosed(STREAM, "reset")) == [lost]
    acts: list[do.Action] = []
    while not acts or not isinstance(acts[-1], do.Dial):
        acts = driver.tick()
    assert acts == [do.Dial("stream", "hub", 15440)]
    assert driver.agent.control.relation is Relation.JOINED


def test_a_silent_master_is_called_anew() -> None:
    driver = joined()
    acts: list[do.Action] = []
    while do.Close(CONTROL, "silent for 10 s") not in acts:
        acts = driver.tick()
    assert driver.now == 100.0 + core.SILENCE_S
    assert do.Close(STREAM, "the control connection is gone") in acts
    assert driver(on.LinkClosed(CONTROL, "silent for 10 s")) == []
    assert driver.tick() == [do.Dial("control", "hub", 15440)]


def test_a_master_that_is_heard_is_not_silent() -> None:
    driver = joined()
    for _ in range(20):
        assert driver.tick() == [do.TakeLoad(())]
        driver.hear(m.Heard())
    assert driver.agent.control.relation is Relation.JOINED


def test_a_stream_link_that_opens_after_control_went_is_closed() -> None:
    driver = joined(stream=False)
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver(on.LinkOpened(STREAM, "stream")) == [
        do.Close(STREAM, "the control connection is gone")
    ]
    assert driver.agent.stream.relation is Relation.APART


def test_what_an_old_link_still_says_is_nobodys() -> None:
    driver = joined()
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver.hear(m.Dismiss(1)) == [] and driver.hear(m.Credit(1, 5), STREAM) == []


def test_what_is_told_while_apart_is_left_to_the_next_report() -> None:
    driver = joined()
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver.tell(orders.Changed((task("aaaaaaaa"),))) == []
    assert driver.tell(orders.Acted(1)) == []
    driver.tick()
    assert do.Send(CONTROL, m.Report((task("aaaaaaaa"),))) in driver.join()


def test_orphans_are_ended_after_their_time_and_once() -> None:
    facts = orders.Facts(
        "n1", "/s", "/l", "boot", master="hub:15440", orphans_kill_s=60.0
    )
    driver = Driver(facts)
    driver.join()
    driver(on.LinkClosed(CONTROL, "reset"), after=5.0)
    acts: list[do.Action] = []
    while not any(isinstance(act, do.Tell) for act in acts):
        acts = driver.tick()
        if any(isinstance(act, do.Dial) for act in acts):
            driver(on.DialFailed("control", "refused"))
    assert driver.now == 165.0
    assert acts == [
        do.Say("severe", "no master for 60 s: ending all tasks and stopping"),
        do.Tell(orders.Stop(end_tasks=True, reason="no master for 60 s")),
    ]
    assert driver.agent.deadline() == FAR and driver(on.Tick(), after=100.0) == []


# ---- waiting for a master ------------------------------------------------------------------


def adopted(driver: Driver, link: int = CONTROL, master: str = "M") -> list[do.Action]:
    driver(on.LinkAccepted(link, "10.0.0.9:5"))
    return driver.hear(m.Adopt(m.VERSION, master, "n1"), link)


def test_an_orphan_answers_its_first_master_and_belongs_to_it_when_welcomed() -> None:
    driver = Driver(ORPHAN)
    assert driver.began == [] and driver.agent.deadline() == FAR
    assert adopted(driver) == sent(hello())
    assert driver.agent.master == ""
    assert do.Remember("M") in driver.hear(m.Welcome("M"))
    driver(on.LinkAccepted(STREAM, "10.0.0.9:6"))
    assert driver.hear(m.Adopt(m.VERSION, "M", "n1", "stream"), STREAM) == sent(
        hello("stream", "M"), link=STREAM
    )


@pytest.mark.parametrize("stage", ["greeting", "joined", "away", "restarted"])
def test_a_second_master_is_refused_with_a_warning(stage: str) -> None:
    driver = Driver(ORPHAN, master="M" if stage == "restarted" else "")
    if stage != "restarted":
        adopted(driver)
    if stage in ("joined", "away"):
        driver.hear(m.Welcome("M"))
    if stage == "away":
        driver(on.LinkClosed(CONTROL, "reset"))
    text = "this node belongs to another master already"
    assert adopted(driver, 9, "other") == [
        do.Say("warning", f"refused the master at 10.0.0.9:5: {text}"),
        *sent(m.Refuse("taken", text), link=9), do.Close(9, text),
    ]


def test_a_master_that_never_welcomes_does_not_own_the_node() -> None:
    driver = Driver(ORPHAN)
    adopted(driver)
    driver.tick()
    assert driver.agent.control.relation is Relation.APART
    assert adopted(driver, 9, "other") == sent(hello(), link=9)


def test_the_masters_newer_call_replaces_the_older_link() -> None:
    driver = Driver(ORPHAN)
    adopted(driver)
    driver.hear(m.Welcome("M"))
    acts = adopted(driver, 9)
    assert acts[0] == do.Close(CONTROL, "replaced by a newer connection")
    assert acts[-1] == do.Send(9, hello(master="M"))
    assert driver(on.LinkClosed(CONTROL, "closed")) == []
    assert do.Open(9, "control") in driver.hear(m.Welcome("M"), 9)


@pytest.mark.parametrize(("adopt", "code"), [
    (m.Adopt(99, "M", "n1"), "version"), (m.Adopt(m.VERSION, "M", "n2"), "name"),
    (m.Adopt(m.VERSION, "M", "n1", "stream"), "order"),
])
def test_a_wrong_greeting_is_refused(adopt: m.Adopt, code: str) -> None:
    driver = Driver(ORPHAN)
    driver(on.LinkAccepted(5, "peer"))
    refusal = driver.hear(adopt, 5)[1]
    assert isinstance(refusal, do.Send) and isinstance(refusal.message, m.Refuse)
    assert refusal.message.code == code and driver.agent.control.link is None


def test_a_stranger_that_is_no_master_is_turned_away() -> None:
    driver = Driver(ORPHAN)
    driver(on.LinkAccepted(5, "peer"))
    assert driver.hear(hello(), 5) == [do.Close(5, "Hello is not how a master greets")]
    assert not driver.agent.strangers


def test_strangers_are_bounded_and_forgotten() -> None:
    driver = Driver(ORPHAN)
    for link in range(core.STRANGERS_MOST):
        assert driver(on.LinkAccepted(link, "peer")) == []
    assert driver(on.LinkAccepted(999, "peer")) == [do.Close(999, "too many callers")]
    driver(on.LinkClosed(0, "gone"))
    assert driver(on.LinkAccepted(1000, "peer")) == []


# ---- orders --------------------------------------------------------------------------------

PASSED_ON: list[tuple[m.Message, do.Action]] = [
    (m.Signal(1, ("a",), 15, whole=True), do.Tell(orders.Signal(1, ("a",), 15, whole=True))),
    (m.Pause(1, ("a",), resume=True), do.Tell(orders.Pause(1, ("a",), resume=True))),
    (m.Forget(1, ("a",)), do.Tell(orders.Forget(1, ("a",)))),
    (m.Erase(1, b"/x", recursive=True), do.EraseFile(1, b"/x", True)),
    (m.Transfer(1, "t", "send", b"/x"),
     do.StartTransfer(m.Transfer(1, "t", "send", b"/x"), "hub:15440")),
    (m.Abandon(1), do.DropTransfer(1)),
    (m.Unfollow(1), do.DropFollow(1)),
    (m.Signal(1, ("a",), 15, relay=7), do.Tell(orders.Signal(1, ("a",), 15, relay=7))),
    (m.Guests((m.Guest("a", "", "n2", 2),), "last"),
     do.Tell(orders.Guests((m.Guest("a", "", "n2", 2),), "last"))),
    (m.Took("a", 5), do.Tell(orders.Took("a", 5))),
]
ANSWERS: list[tuple[on.Event, m.Message]] = [
    (on.WorkProgressed(1, 2, 3), m.Moved(1, 2, 3)),
    (on.PortOpened(1, 5), m.Listening(1, 5)),
    (on.Copied(1, 2, 3, b"/x", ("w",)), m.Copied(1, 2, 3, b"/x", ("w",))),
    (on.WorkEnded(1, "cut", "x"), m.Done(1, "cut", "x")),
    (on.UsageTaken(1, Usage(minflt=1), {}), m.Measured(1, Usage(minflt=1))),
    (on.KeeperTold(orders.Acted(1, "c", "t")), m.Done(1, "c", "t")),
    (on.KeeperTold(orders.Rejected("a", "ENOENT", "t")), m.Rejected(("a",), "ENOENT", "t")),
]


@pytest.mark.parametrize(("message", "action"), PASSED_ON)
def test_an_order_is_passed_on(message: m.Message, action: do.Action) -> None:
    assert joined().hear(message) == [action]


@pytest.mark.parametrize(("event", "message"), ANSWERS)
def test_an_answer_goes_to_the_master_who_asked(event: on.Event, message: m.Message) -> None:
    driver = joined()
    driver.hear(m.Transfer(1, "t", "send", b"/x"))
    assert driver(event) == sent(message)
    driver(on.LinkClosed(CONTROL, "reset"))
    driver.tick()
    driver.join()
    if not isinstance(message, m.Rejected):
        assert driver(event) == []
    assert Driver()(event) == []


def test_an_order_is_answered_once() -> None:
    driver = joined()
    driver.hear(m.Erase(1, b"/x"))
    assert driver(on.WorkEnded(1)) == sent(m.Done(1))
    assert driver(on.WorkEnded(1)) == [] and not driver.agent.asked


def test_a_launch_that_the_keeper_has_not_told_of_is_reported() -> None:
    driver = joined()
    driver.hear(m.Launch(Spec("", (b"true",)), ("aaaaaaaa", "bbbbbbbb", "cccccccc")))
    driver.tell(orders.Rejected("bbbbbbbb", "ENOENT", "no"))
    driver.tell(orders.Changed((task("cccccccc"),)))
    driver(on.LinkClosed(CONTROL, "reset"))
    driver.tick()
    begun = Task(Spec("aaaaaaaa", (b"true",)))
    assert do.Send(CONTROL, m.Report((task("cccccccc"), begun))) in driver.join()


def test_a_follow_of_what_is_not_there_any_more_ends() -> None:
    driver = joined()
    assert driver.hear(m.Follow(4, "aaaaaaaa", offset=9, live=True)) == [
        do.DropFollow(4),
        *sent(m.Ended(4, 9, "forgotten", "the task was removed"), link=STREAM),
    ]
    assert not driver.agent.follows and not driver.agent.readers


def test_certificates_are_passed_on() -> None:
    driver = joined()
    assert driver(on.RequestMade(b"csr")) == sent(m.Renew(b"csr"))
    assert driver.hear(m.Renewed(b"pem")) == [do.Install(b"pem")]


def test_a_launch_starts_each_id_with_its_index() -> None:
    spec = Spec("", (b"true",), index=3)
    assert joined().hear(m.Launch(spec, ("aaaaaaaa", "bbbbbbbb"))) == [do.Tell(orders.Start((
        Spec("aaaaaaaa", (b"true",), index=3), Spec("bbbbbbbb", (b"true",), index=4),
    )))]


def test_usage_is_of_what_runs_and_fresh_from_the_keeper() -> None:
    driver = joined(task("aaaaaaaa"), task("bbbbbbbb", Status.EXITED), task("cccccccc", pid=None))
    assert driver.hear(m.Measure(1)) == [do.Tell(orders.Measure())]
    assert driver.hear(m.Measure(2, ("bbbbbbbb", "nothing"))) == [do.Tell(orders.Measure())]
    assert driver.tell(orders.Measured(Usage(minflt=9))) == [
        do.TakeUsage(1, {"aaaaaaaa": 7}), do.TakeUsage(2, {})
    ]
    assert driver.tell(orders.Measured(Usage())) == []


def test_what_decides_where_a_task_can_go_is_the_keepers_to_tell() -> None:
    driver, spec, traits = joined(task("aaaaaaaa")), Spec("bbbbbbbb", (b"P",)), Traits("x86_64")
    assert driver.hear(m.Describe(1, "aaaaaaaa")) == [do.Tell(orders.Describe(1, "aaaaaaaa"))]
    assert driver.tell(orders.Described(1, traits)) == sent(m.Described(1, traits))
    assert driver.hear(m.Survey(2, spec, (b"/x",))) == [do.Tell(orders.Survey(2, spec, (b"/x",)))]
    place = Place("n1", "x86_64")
    assert driver.tell(orders.Surveyed(2, place)) == sent(m.Surveyed(2, place))
    # Once, and to who asked.
    assert driver.tell(orders.Surveyed(2, place)) == []


def test_a_forgotten_task_is_dropped_with_its_notes() -> None:
    driver = joined(task("aaaaaaaa"))
    assert driver.tell(orders.Forgotten(("aaaaaaaa", "unknown1"))) == [
        do.DropLogTimes(("aaaaaaaa", "unknown1")), *sent(m.Forgotten(("aaaaaaaa", "unknown1")))
    ]
    assert not driver.agent.tasks


def test_an_upgrade_is_answered_before_the_agent_ends() -> None:
    driver = joined(task("aaaaaaaa"))
    said, *rest = driver.hear(m.Upgrade(7))
    assert isinstance(said, do.Say)
    assert rest == [*sent(m.Done(7)), do.Tell(orders.Restart())]
    assert driver.agent.control.relation is Relation.JOINED


def test_a_dismissed_node_forgets_its_master_and_calls_no_more() -> None:
    driver = joined()
    acts = driver.hear(m.Dismiss(1))
    assert acts[0] == do.Remember("")
    assert acts[-1] == do.Tell(orders.Stop(end_tasks=True, reason="deregistered"))
    assert driver.tell(orders.Stopping("deregistered")) == [
        *sent(m.Leaving("deregistered")), do.Exit("stopping")
    ]
    # It is no news that the master hangs up, and nobody calls it again.
    assert not any(isinstance(act, do.Say) for act in driver(on.LinkClosed(CONTROL, "closed")))
    assert driver.agent.deadline() == FAR and driver(on.Tick(), after=99.0) == []


def test_what_a_node_finds_out_later_is_told_then_and_in_the_next_hello() -> None:
    driver = joined()
    acts = driver.tell(orders.Able(("shell", "criu=4.1.1"), {"lazy": "no"}))
    assert acts == sent(m.Able(("shell", "criu=4.1.1"), {"lazy": "no"}))
    assert driver.agent.facts and driver.agent.facts.can == ("shell", "criu=4.1.1")


def test_a_node_that_stops_unjoined_just_exits() -> None:
    assert Driver().tell(orders.Stopping("SIGTERM", 3)) == [do.Exit("stopping")]


# ---- streams -------------------------------------------------------------------------------


def start(stream: int, name: str, live: bool = True, offset: int = 0) -> do.StartFollow:
    return do.StartFollow(STREAM, stream, name, f"/logs/{name}", offset, None, 0.0, live)


def test_a_follow_starts_at_once_and_is_finished_with_its_task() -> None:
    driver = joined(task("aaaaaaaa"))
    assert driver.hear(m.Follow(4, "aaaaaaaa", offset=9, live=True)) == [
        do.DropFollow(4), start(4, "aaaaaaaa", offset=9)
    ]
    assert driver.hear(m.Credit(4, 10), STREAM) == [do.GrantFollow(4, 10)]
    ended = task("aaaaaaaa", Status.EXITED)
    assert driver.tell(orders.Changed((ended,))) == [*sent(m.Changed((ended,))), do.FinishFollow(4)]
    assert driver(on.FollowEnded(4)) == [] and not driver.agent.follows and not driver.agent.readers


def test_the_log_of_an_ended_task_is_not_waited_for() -> None:
    driver = joined(task("aaaaaaaa", Status.EXITED))
    assert driver.hear(m.Follow(4, "aaaaaaaa", live=True))[1] == start(4, "aaaaaaaa", live=False)


def test_a_launch_is_followed_as_soon_as_there_is_a_task() -> None:
    driver = joined()
    driver.hear(m.Launch(Spec("", (b"true",)), ("aaaaaaaa", "bbbbbbbb"), (4, 5)))
    running = task("aaaaaaaa")
    assert driver.tell(orders.Changed((running,))) == [
        *sent(m.Changed((running,))), start(4, "aaaaaaaa")
    ]
    driver.tell(orders.Rejected("bbbbbbbb", "ENOENT", "no"))
    assert [*driver.agent.follows] == [4] and [*driver.agent.readers] == ["aaaaaaaa"]


def test_a_follow_waits_for_the_stream_link() -> None:
    driver = joined(task("aaaaaaaa"), stream=False)
    assert driver.hear(m.Follow(4, "aaaaaaaa", live=True)) == [do.DropFollow(4)]
    driver(on.LinkOpened(STREAM, "stream"))
    assert driver.hear(m.Welcome("M"), STREAM) == [
        do.Open(STREAM, "stream"), start(4, "aaaaaaaa")
    ]


@pytest.mark.parametrize("link", [CONTROL, STREAM])
def test_streams_do_not_outlive_a_link(link: int) -> None:
    """A new master counts its streams from one again."""
    driver = joined(task("aaaaaaaa"))
    driver.hear(m.Follow(4, "aaaaaaaa", live=True))
    driver.hear(m.Launch(Spec("", (b"true",)), ("bbbbbbbb",), (5,)))
    acts = driver(on.LinkClosed(link, "reset"))
    assert do.DropFollow(4) in acts and do.DropFollow(5) in acts
    assert not driver.agent.follows and not driver.agent.readers


def test_asking_again_moves_a_follow() -> None:
    driver = joined(task("aaaaaaaa"))
    driver.hear(m.Follow(4, "aaaaaaaa", live=True))
    assert driver.hear(m.Follow(4, "aaaaaaaa", offset=50, live=True)) == [
        do.DropFollow(4), start(4, "aaaaaaaa", offset=50)
    ]
    assert driver.agent.readers == {"aaaaaaaa": {4}}


def test_a_task_thought_lost_is_not_waited_for() -> None:
    driver = joined(task("aaaaaaaa"))
    driver.hear(m.Follow(4, "aaaaaaaa", live=True))
    lost = task("aaaaaaaa", Status.UNKNOWN)
    assert driver.tell(orders.Changed((lost,)))[-1] == do.FinishFollow(4)


def test_a_thousand_followed_tasks_are_each_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    writes: Callable[[Task], bool] = Agent._writes

    def count(one: Task) -> bool:
        nonlocal looks
        looks += 1
        return writes(one)

    monkeypatch.setattr(Agent, "_writes", staticmethod(count))
    driver = joined()
    names = tuple(f"a{i:07}" for i in range(1000))
    driver.hear(m.Launch(Spec("", (b"true",)), names, tuple(range(1000))))
    for status in (Status.RUNNING, Status.EXITED):
        for name in names:
            driver.tell(orders.Changed((task(name, status),)))
    assert looks == 2000


# ---- shadows -------------------------------------------------------------------------------


def test_what_a_shadow_caught_is_said_on_each_connection_till_it_is_taken() -> None:
    driver = joined()
    caught = m.Caught("a", 5, 15)
    assert driver.tell(orders.Caught("a", 5, 15)) == sent(caught)
    driver(on.LinkClosed(CONTROL, "reset"))
    assert do.Send(CONTROL, caught) in driver.join()
    assert driver.hear(m.Took("a", 5)) == [do.Tell(orders.Took("a", 5))]
    driver(on.LinkClosed(CONTROL, "reset"))
    assert do.Send(CONTROL, caught) not in driver.join()


def test_what_is_taken_late_leaves_the_next_signal_to_be_said() -> None:
    driver = joined()
    driver.tell(orders.Caught("a", 6, 1))
    driver.hear(m.Took("a", 5))
    driver(on.LinkClosed(CONTROL, "reset"))
    assert do.Send(CONTROL, m.Caught("a", 6, 1)) in driver.join()


def test_a_log_at_home_is_asked_for_on_each_stream() -> None:
    driver = joined()
    opened = do.OpenHomeLog("a", "/logs/a")
    assert driver.tell(orders.HomeLog("a", "/logs/a")) == [opened]
    assert driver(on.HomeLogAt("a", 9)) == sent(m.Kept("a", 9), link=STREAM)
    assert driver.hear(m.Log("a", 9, b"x"), STREAM) == [do.WriteHomeLog("a", 9, b"x")]
    driver(on.LinkClosed(CONTROL, "reset"))
    assert driver(on.HomeLogAt("a", 10)) == []
    assert opened in driver.join()
    assert driver.tell(orders.HomeLog("a", "")) == [do.CloseHomeLog("a")]
    driver(on.LinkClosed(CONTROL, "reset"))
    assert opened not in driver.join()


def test_a_log_at_home_that_cannot_be_written_is_said() -> None:
    (said,) = joined()(on.HomeLogFailed("a", "no space left"))
    assert isinstance(said, do.Say) and "no space left" in said.text
