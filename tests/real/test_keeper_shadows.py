"""Shadows as a real keeper makes, hears and ends them; the test is its agent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientd.keeper import orders, processes
from clientd.keeper.shadows.core import MOST_WAITING
from clientd.keeper.shadows.process import MARK, NAME, RECORD
from godwit.wire.messages import Guest
from tests.real.cluster import eventually
from tests.real.keeping import Keeping

TASK = "shade001"


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    with Keeping(tmp_path) as keeping:
        yield keeping


def guest(**more: object) -> Guest:
    return Guest(TASK, "", "node2", 2, **more)  # type: ignore[arg-type]


def tell(keeping: Keeping, *guests: Guest, sync: str = "") -> None:
    keeping.agent.send(orders.Guests(guests, sync))  # type: ignore[arg-type]


def of(keeping: Keeping) -> list[processes.Process]:
    """The shadows of this keeper's: others of this machine have another mark."""
    return [
        one for one in processes.everyone()
        if not one.is_dead and processes.command_line(one.pid)[:2] == (NAME, TASK.encode())
        and processes.environment(one.pid).get(MARK, b"").startswith(mark(keeping))
    ]


def mark(keeping: Keeping) -> bytes:
    from clientd.keeper.node import mark_of

    return mark_of(str(keeping.state)).encode()


def stand(keeping: Keeping) -> int:
    """The pid of the shadow of a task that is away."""
    tell(keeping, guest())
    return there(keeping)


def there(keeping: Keeping) -> int:
    eventually(lambda: len(of(keeping)) == 1, "there is a shadow")
    (one,) = of(keeping)
    return one.pid


def pending(pid: int) -> bool:
    """A signal waits in the kernel."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def caught(keeping: Keeping) -> tuple[int, int]:
    """Number and id of the next signal that is told."""
    word = keeping.agent.word(orders.Caught)
    assert word.task == TASK
    return word.number, word.id


def take(keeping: Keeping, number: int) -> None:
    keeping.agent.send(orders.Took(TASK, number))


def logged(keeping: Keeping, text: str) -> bool:
    return text in (keeping.logs / "clientd.log").read_text()


def test_a_signal_is_told_until_it_is_taken_also_to_another_agent(keeping: Keeping) -> None:
    pid = stand(keeping)
    os.kill(pid, signal.SIGTERM)
    number, first = caught(keeping)
    assert number == signal.SIGTERM
    os.kill(pid, signal.SIGHUP)
    os.kill(keeping.agent.pid, signal.SIGKILL)
    keeping.next_agent()
    assert caught(keeping) == (signal.SIGTERM, first)
    take(keeping, first)
    number, second = caught(keeping)
    assert number == signal.SIGHUP and second > first
    take(keeping, second)


@pytest.mark.parametrize(("end", "told"), [
    (guest(state="ended", exit_code=7), "code 7"),
    (guest(state="ended", signal=int(signal.SIGSEGV)), "SIGSEGV"),
    (guest(state="lost"), "code 125"),
    (guest(state="removed"), "SIGKILL"),
])
def test_it_ends_as_its_guest_did_even_when_it_is_stopped(
    keeping: Keeping, end: Guest, told: str
) -> None:
    pid = stand(keeping)
    os.kill(pid, signal.SIGSTOP)
    assert caught(keeping)[0] == signal.SIGSTOP
    tell(keeping, end)
    eventually(lambda: logged(keeping, f"the shadow of {TASK} ended ({told})"), f"it ends: {told}")
    assert not of(keeping) and not list((keeping.state / "shadows").iterdir())


def test_what_the_master_does_not_name_ends(keeping: Keeping) -> None:
    pid = stand(keeping)
    tell(keeping, guest(), sync="more")
    tell(keeping, sync="last")
    tell(keeping, Guest(TASK, "", "node3", 3))
    eventually(lambda: b"node3" in processes.command_line(pid), "it is there, with another title")
    tell(keeping, sync="last")
    eventually(lambda: logged(keeping, f"the shadow of {TASK} ended (code 125)"), "it ends")


def test_it_outlives_its_keeper_with_what_it_caught(keeping: Keeping) -> None:
    pid = stand(keeping)
    keeping.kill()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        os.kill(pid, number)
        eventually(lambda: not pending(pid), "it has taken it")
    keeping.run()
    assert there(keeping) == pid
    numbers = []
    for _ in range(3):
        number, taken = caught(keeping)
        numbers.append(number)
        take(keeping, taken)
    assert numbers == [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]
    os.kill(pid, signal.SIGKILL)
    assert caught(keeping)[0] == signal.SIGKILL
    eventually(lambda: not of(keeping), "none comes back")


def test_one_that_was_ended_unseen_is_made_again_and_nobody_is_killed(keeping: Keeping) -> None:
    pid = stand(keeping)
    keeping.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not of(keeping), "it is gone")
    keeping.run()
    assert there(keeping) != pid
    assert not [word for word in keeping.agent.words if isinstance(word, orders.Caught)]


def test_more_than_may_wait_stays_with_the_shadow_and_comes_later(keeping: Keeping) -> None:
    pid = stand(keeping)
    sent = MOST_WAITING + 20
    for _ in range(sent):
        os.kill(pid, signal.SIGRTMIN)
    for _ in range(sent):
        number, taken = caught(keeping)
        assert number == signal.SIGRTMIN
        take(keeping, taken)
    os.kill(pid, signal.SIGUSR1)
    assert caught(keeping)[0] == signal.SIGUSR1


def test_a_keeper_that_stops_leaves_shadows_and_one_that_ends_tasks_does_not(
    keeping: Keeping
) -> None:
    pid = stand(keeping)
    keeping.daemon.send(signal.SIGTERM)
    keeping.agent.word(orders.Stopping)
    keeping.agent.leave()
    eventually(lambda: keeping.daemon.ended, "it has stopped")
    assert os.path.exists(f"/proc/{pid}")
    keeping.run()
    assert there(keeping) == pid
    keeping.agent.send(orders.Stop(end_tasks=True))
    keeping.agent.word(orders.Stopping)
    assert not of(keeping)


def test_a_shadow_without_a_record_is_ended(keeping: Keeping) -> None:
    pid = stand(keeping)
    keeping.kill()
    (keeping.state / "journal").unlink()
    keeping.run()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")


def test_what_is_no_record_in_its_pipe_harms_nobody(keeping: Keeping) -> None:
    pid = stand(keeping)
    with (keeping.state / "shadows" / TASK).open("wb", buffering=0) as pipe:
        pipe.write(RECORD.pack(2**32 - 1, 999, 0, 0))
    number, taken = caught(keeping)
    assert number == 999
    take(keeping, taken)
    tell(keeping, guest(state="ended", exit_code=0))
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it ends all the same")


def test_a_user_that_the_policy_does_not_know_gets_no_shadow(keeping: Keeping) -> None:
    tell(keeping, Guest(TASK, "no-such-user", "node2", 2))
    eventually(lambda: logged(keeping, "there is no user 'no-such-user'"), "the log says why")
    assert not of(keeping)


def test_a_signal_of_a_shadow_is_sent_once_whatever_is_ordered(keeping: Keeping) -> None:
    task = keeping.start(
        "/bin/sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.02; done"
    )
    eventually(lambda: b"ready" in keeping.log(task), "it has its handler")
    for relay in (5, 5, 4):
        answer = keeping.ask(orders.Signal, task, number=int(signal.SIGHUP), relay=relay)
        assert answer.code == ""
    keeping.kill()
    keeping.run()
    assert keeping.ask(orders.Signal, task, number=int(signal.SIGHUP), relay=5).code == ""
    eventually(lambda: keeping.log(task).count(b"hup\n") == 1, "it had one")
    assert keeping.ask(orders.Signal, task, number=int(signal.SIGTERM), relay=6).code == ""
    keeping.end_of(task)
    assert keeping.log(task).count(b"hup\n") == 1
    # It was done before the task ended, and that is what it says.
    assert keeping.ask(orders.Signal, task, number=int(signal.SIGTERM), relay=6).code == ""
    assert keeping.ask(orders.Signal, task, number=int(signal.SIGTERM), relay=7).code == "ended"
