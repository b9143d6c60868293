"""Tasks with this terminal in front of them: their output here, our signals there.

What Ctrl-C means depends on the command, so it is given as a list of steps: the first signal
takes the first step, and so on; after the last the command leaves its tasks to themselves.
"""

import signal
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from godwit.errors import PeerError, UsageError
from godwit.task.record import signal_name
from godwit.wire import operations as op
from masterd.client import Answers, Client, Interrupted
from masterd.commands import asking, interrupts, output
from masterd.commands.context import Context


class Step(Struct, frozen=True):
    """Which signal the tasks get; ``number`` 0 is the one that came."""

    number: int = 0
    whole: bool = False


#: A remote command: gently, firmly, at once.
HARDER = (Step(signal.SIGINT), Step(signal.SIGTERM), Step(signal.SIGKILL, whole=True))
#: A program in the foreground gets what we get, and may take its time.
PASS_ON = (Step(), Step(), Step())
#: Who only looks on leaves.
LOOK_ON: tuple[Step, ...] = ()

#: What is made of the tasks once they are known.
Open = Callable[[Sequence[op.TaskView]], output.Sink]


class Left(UsageError):
    """The person left before the tasks had ended."""

    def __init__(self, tasks: Iterable[str], number: int):
        shown = " ".join(list(tasks)[:3])
        super().__init__(
            "left: what was started goes on", code="interrupted",
            hint=f"logs -f {shown}" if shown else "list", exit_status=128 + number,
        )


class Foreground:
    """One launch and those of its tasks that have not ended."""

    def __init__(self, context: Context, client: Client, steps: Sequence[Step]):
        self._context = context
        self._client = client
        self._steps = list(steps)
        #: None until the master has answered; signals that come earlier wait in ``_early``.
        self._running: dict[str, None] | None = None
        self._early: list[int] = []
        #: 1 when some of it could not be launched, which was said.
        self.status = 0

    def run(self, request: op.Execute, opened: Open, deadline: float | None = None) -> op.Tasks:
        """Launches and follows; the tasks when all have ended.

        Raises UsageError: Left, TimedOut, or what the master says.
        """
        with (
            interrupts.caught(signal.SIGINT, signal.SIGTERM) as wake,
            self._client.stream(request, wake, deadline=deadline) as answers,
        ):
            return self._follow(answers, opened)

    def wait(self, tasks: Sequence[op.TaskView], deadline: float | None) -> op.Tasks:
        """Waits for tasks that were launched already.  Raises as ``run`` does."""
        self.launched(tasks)
        request = op.AwaitTasks(0, tuple(view.task.id for view in tasks))
        with (
            interrupts.caught(signal.SIGINT, signal.SIGTERM) as wake,
            self._client.stream(request, wake, deadline=deadline) as answers,
        ):
            for reply in answers:
                if isinstance(reply, Interrupted):
                    self.interrupt(reply.number)
                elif isinstance(reply, op.Tasks):
                    return reply
        raise PeerError("the master ended its answer without saying what became of the tasks")

    def _follow(self, answers: Answers, opened: Open) -> op.Tasks:
        flow: output.Flow | None = None
        for reply in answers:
            match reply:
                case Interrupted(number):
                    self.interrupt(number)
                case op.Launched():
                    flow = output.Flow(
                        self._context, self._client, answers.id, opened(reply.tasks)
                    )
                    self.status = asking.faults(self._context, reply.faults)
                    self.launched(reply.tasks)
                case op.Output() if flow:
                    flow.take(reply)
                case op.OutputEnd() if flow:
                    flow.end(reply)
                    (self._running or {}).pop(reply.task, None)
                case op.Tasks():
                    return reply
                case _:
                    pass
        raise PeerError("the master ended its answer without saying what became of the tasks")

    def launched(self, tasks: Sequence[op.TaskView]) -> None:
        """These run now; signals that came meanwhile reach them."""
        self._running = {view.task.id: None for view in tasks}
        for number in self._early:
            self.interrupt(number)

    def interrupt(self, number: int) -> None:
        """Takes the next step.  Raises Left when there is none."""
        if self._running is None:
            self._early.append(number)
            if len(self._early) > max(1, len(self._steps)):
                raise Left((), number)
        elif self._steps:
            self._send(self._steps.pop(0), number)
        else:
            raise Left(self._running, number)

    def _send(self, step: Step, number: int) -> None:
        """The signal of ``step``, or the one that came, to the tasks that have not ended."""
        sent = step.number or number
        if self._running:
            request = op.SignalTasks(0, tuple(self._running), sent, step.whole)
            self._client.post(request, self._signalled)
        after = signal_name(self._steps[0].number or number) if self._steps else "leave"
        self._context.out.flush()
        self._context.note(f"{signal_name(sent)} sent (next: {after})")

    def _signalled(self, reply: op.Reply) -> None:
        """Tasks that ended meanwhile need no word; that none could be reached does."""
        if isinstance(reply, op.Problem):
            self._context.note(reply.message)
