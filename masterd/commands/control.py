"""Commands that act on running tasks: kill, sKill, signal, pause, resume, wait."""

import signal

from godwit.wire import operations as op
from masterd.commands import asking, signals
from masterd.commands.asking import Given
from masterd.commands.context import Context


def kill(context: Context, given: Given) -> int:
    """Send SIGINT, or another signal, to tasks

    Usage: kill [options] TASK...

    The signal reaches the whole process group of each task.

    Options:
      -s, --signal SIG  Another signal: TERM, SIGTERM or 15; also -15, -TERM.
      -n, --dry-run     Only say what would get the signal.
      -q, --quiet       Task ids only.
      --json            As JSON: {"tasks"}.
      -h, --help        Show this.

    Examples:
      kill ab12cd34
      kill -9 ab12cd34 node2:4711
      kill -s TERM ab12
    """
    number = signals.number(given["--signal"] or "INT")
    return _send(context, given, op.SignalTasks(0, tuple(given["TASK"]), number))


def skill(context: Context, given: Given) -> int:
    """Kill tasks, and everything they started, with SIGKILL

    Usage: sKill [options] TASK...

    On nodes with cgroups nothing that a task started is left, double forks included; elsewhere
    its process group and session are ended.

    Options:
      -n, --dry-run  Only say what would be killed.
      -q, --quiet    Task ids only.
      --json         As JSON: {"tasks"}.
      -h, --help     Show this.

    Examples:
      sKill ab12cd34
    """
    request = op.SignalTasks(0, tuple(given["TASK"]), signal.SIGKILL, whole=True)
    return _send(context, given, request)


def send_signal(context: Context, given: Given) -> int:
    """Send any signal to a task

    Usage: signal [options] TASK SIGNAL

    SIGNAL is a name or a number: USR1, SIGUSR1, 10, RTMIN+3.

    Options:
      -q, --quiet  Task ids only.
      --json       As JSON: {"tasks"}.
      -h, --help   Show this.

    Examples:
      signal ab12cd34 HUP
    """
    number = signals.number(given["SIGNAL"])
    request = op.SignalTasks(0, (given["TASK"],), number)
    return _send(context, {"--dry-run": False, **given}, request)


def _send(context: Context, given: Given, request: op.SignalTasks) -> int:
    name = signals.signal_name(request.number)
    if given["--dry-run"]:
        found = context.master.ask(op.ListTasks(0, request.tasks), op.Tasks)
        return asking.acted(context, given, found, lambda view: f"would get {name}")
    answer = context.master.ask(request, op.Tasks)
    return asking.acted(context, given, answer, lambda view: f"{name} sent")


def pause(context: Context, given: Given) -> int:
    """Stop tasks where they are, until resume

    Usage: pause [options] TASK...

    Options:
      -q, --quiet  Task ids only.
      --json       As JSON: {"tasks"}.
      -h, --help   Show this.

    Examples:
      pause ab12cd34
    """
    answer = context.master.ask(op.PauseTasks(0, tuple(given["TASK"])), op.Tasks)
    return asking.acted(context, given, answer, lambda view: "paused")


def resume(context: Context, given: Given) -> int:
    """Let paused tasks go on

    Usage: resume [options] TASK...

    Options:
      -q, --quiet  Task ids only.
      --json       As JSON: {"tasks"}.
      -h, --help   Show this.

    Examples:
      resume ab12cd34
    """
    answer = context.master.ask(op.PauseTasks(0, tuple(given["TASK"]), resume=True), op.Tasks)
    return asking.acted(context, given, answer, lambda view: "resumed")


def wait(context: Context, given: Given) -> int:
    """Block until tasks have ended, and exit with their code

    Usage: wait [options] TASK...

    The exit status is the task's: its code, 128 + n for signal n, 125 when it cannot be known;
    of several tasks, the first in the order given that is not 0; 124 when the time is over.

    Options:
      --timeout S  Wait S seconds at most: 90, 0.5, 10m.
      -q, --quiet  Task ids only.
      --json       As JSON: {"tasks"}.
      -h, --help   Show this.

    Examples:
      wait ab12cd34 && echo done
      wait --timeout 10m ab12cd34 ef56ab78
    """
    timeout = asking.seconds(given["--timeout"], "--timeout")
    answer = context.master.ask(op.AwaitTasks(0, tuple(given["TASK"]), timeout), op.Tasks)
    refused = asking.acted(context, given, answer, lambda view: asking.exit_text(view.task))
    return asking.first_failure(answer.tasks) or refused
