"""How long a Python task stands still when it moves, and how many move in a second.

    benchmarks/move.py [--rounds N] [--in-a-row N] [--big MB]      (default: 100 rounds, 1000, 256)

Starts a master and two nodes in a scratch folder on this machine.  Prints
* blackout, p50 and p99, of a task with 1 MB of state, as its own clock has it;
* of a task with 256 MB of state: MB/s while it stands still, next to a bare TLS copy of its pickle
  over loopback in the same run;
* moves in a row of one CountProcess that prints every millisecond, and whether its one log has
  every number once;
* moves a second with 50 tasks moving at once.
"""

import argparse
import os
import pickle
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from godwit.wire import operations as op
from godwit.wire.trust import Trust
from masterd.client import Client, readable
from tests.certificates import Issuer
from tests.real.moving import Moving

HOLDER = '''
import os, time
from godwit import Migratable

class Holder(Migratable):
    """Holds so many MB, and ticks."""

    def __init__(self, megabytes):
        self.state = os.urandom(1 << 20) * int(megabytes)
        self.n = 0

    def step(self):
        self.n += 1
        time.sleep(0.001)
        return True
'''


def move(client: Client, task: str, target: str) -> op.MoveView:
    (view,) = client.ask(op.MoveTask(0, task, target), op.Moves).moves
    assert view.result == "done", view
    return view


def there_and_back(client: Client, task: str, count: int) -> list[op.MoveView]:
    """Moves in a row."""
    return [move(client, task, ("node2", "node1")[i % 2]) for i in range(count)]


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bare_tls(trust: Trust, size: int) -> float:
    """MB/s of a TLS copy of a pickle of that many bytes over loopback, one thread a side."""
    payload = pickle.dumps({"state": os.urandom(1 << 20) * (size >> 20)}, protocol=5)
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        raw, _ = listener.accept()
        with trust.server().wrap_socket(raw, server_side=True) as link:
            view = memoryview(bytearray(1 << 20))
            left = len(payload)
            while left:
                left -= link.recv_into(view)
            done.set()

    thread = threading.Thread(target=serve)
    thread.start()
    raw = socket.create_connection(listener.getsockname())
    with trust.client().wrap_socket(raw) as link:
        begin = time.perf_counter()
        link.sendall(payload)
        done.wait()
        took = time.perf_counter() - begin
    thread.join()
    listener.close()
    return len(payload) / 1e6 / took


def all_at_once(client: Client, tasks: list[str], target: str) -> float:
    """Moves a second."""
    results: list[str] = []

    def then(reply: op.Reply) -> None:
        assert isinstance(reply, op.Moves), reply
        results.append(reply.moves[0].result)

    begin = time.perf_counter()
    for task in tasks:
        client.post(op.MoveTask(0, task, target), then)
    while len(results) < len(tasks):
        readable(1.0, client.fileno())
        client.pump()
    assert set(results) == {"done"}, results
    return len(tasks) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--in-a-row", type=int, default=1000)
    parser.add_argument("--big", type=int, default=256)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Moving(Path(folder)) as cluster:
        program = Path(folder) / "holder.py"
        program.write_text(HOLDER)
        with cluster.client() as client:
            report(cluster, client, given, str(program))


def report(cluster: Moving, client: Client, given: argparse.Namespace, program: str) -> None:
    task = cluster.run("node1", f"{program}:Holder", "1")
    there_and_back(client, task, 10)
    views = there_and_back(client, task, given.rounds)
    blackouts = [view.blackout_ms for view in views]
    whole = [(view.ended_at - view.begun_at) * 1e3 for view in views]
    print(
        f"1 MB of state: blackout p50 {quantile(blackouts, 0.5):.1f} ms, "
        f"p99 {quantile(blackouts, 0.99):.1f} ms, whole move p50 {quantile(whole, 0.5):.1f} ms"
    )
    for name in views[0].phases_ms:
        print(f"    {name:13}{statistics.median(v.phases_ms.get(name, 0) for v in views):7.2f} ms")
    cluster.godwit("sKill", task)

    task = cluster.run("node1", f"{program}:Holder", str(given.big))
    rates, bares = [], []
    trust = Issuer().folder(cluster.top / "bare", "godwit:master")
    for round_ in range(6):
        bares.append(bare_tls(trust, given.big << 20))
        view = move(client, task, ("node2", "node1")[round_ % 2])
        rates.append(view.size / 1e3 / view.blackout_ms)
    print(
        f"{given.big} MB of state: {statistics.median(rates):.0f} MB/s of it while it stands "
        f"still; bare TLS {statistics.median(bares):.0f} MB/s; ratio "
        f"{statistics.median(r / b for r, b in zip(rates, bares, strict=True)):.2f}"
    )
    for name, ms in view.phases_ms.items():
        print(f"    {name:13}{ms:7.1f} ms")
    cluster.godwit("sKill", task)

    task = cluster.run("node1", "CountProcess", str(10**9), "0.001")
    begin = time.perf_counter()
    there_and_back(client, task, given.in_a_row)
    took = time.perf_counter() - begin
    cluster.godwit("kill", task)
    cluster.godwit("wait", task)
    where = str(cluster.shown(task)["node"])
    counted = cluster.numbers(where, task)
    once = "each once" if counted == list(range(len(counted))) else "NOT each once"
    print(
        f"{given.in_a_row} moves in a row of one CountProcess: {took:.1f} s, "
        f"0..{len(counted) - 1} in its log, {once}"
    )

    words = ("--count", "50", "node1", "CountProcess", "9999999", "0.05")
    shown = cluster.json("run", "--json", *words)
    tasks = [str(one["task"]) for one in shown["tasks"]]
    rates = [all_at_once(client, tasks, ("node2", "node1")[i % 2]) for i in range(4)]
    print(f"50 tasks at once: {statistics.median(rates):.0f} moves/s")


if __name__ == "__main__":
    main()
