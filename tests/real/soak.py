"""A soak: a real cluster at work while daemons are killed -9, then while hostile peers try.

    .venv/bin/python tests/real/soak.py --minutes 5

Prints a table of figures; exits 1 when one of them is bad.  It runs for so many minutes at least,
and longer until it has as many kills and malformed frames as asked for, up to three times that.

    --minutes M   how long (5)
    --nodes N     how many nodes (12): an agent that is killed often is restarted later each time
    --kills N     of masters, and of agents, at least (20 a minute, 100 at most)
    --frames N    malformed, at least (20,000 a minute, 100,000 at most)
    --seed K      of its dice (by the clock)
"""

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from godwit.wire.trust import Trust
from tests.certificates import Issuer, without
from tests.real.cluster import Cluster
from tests.real.playing import LOCAL, adopt, enrolled, waiting
from tests.real.soaking.figures import Figures
from tests.real.soaking.junk import Stage, barrage
from tests.real.soaking.kills import Kills
from tests.real.soaking.nobodies import nobodies, try_all, try_socket
from tests.real.soaking.watched import Sessions, Witnesses
from tests.real.soaking.work import Work
from tests.real.soaking.writers import Follower

#: Callers that throw malformed frames at once.
CALLERS = 6
#: Share of the time in which daemons are killed; hostile peers have the rest.
KILLING = 0.6
#: Seconds that kills and frames have at least to become enough, on a machine that is busy.
LEAST_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a soak."""

    seconds: float
    nodes: int
    kills: int
    frames: int
    seed: int
    #: Of the unauthenticated messages, every n-th.
    every: int = 1


def soak(top: Path, plan: Plan) -> Figures:
    """Runs it in folders below ``top``."""
    figures = Figures(plan.kills, plan.frames)
    names = [f"node{number}" for number in range(1, plan.nodes + 1)]
    with Cluster(top, nodes=names) as cluster:
        witnesses = Witnesses(cluster, figures)
        killing(cluster, names, plan, figures)
        witnesses.look()
        hostile(cluster, names, plan, figures)
        witnesses.look()
    count_tracebacks(top, figures)
    return figures


# ---- daemons die ---------------------------------------------------------------------------


def killing(cluster: Cluster, names: list[str], plan: Plan, figures: Figures) -> None:
    """Launches and follows go on while daemons are killed; then the sum is drawn."""
    ledger = cluster.top / "ledger"
    work = Work(cluster.state, ledger, figures, len(names))
    followers = [Follower(cluster.state, node, work, ledger, figures) for node in names[:2]]
    stop = threading.Event()
    kills = Kills(cluster, names, figures, random.Random(plan.seed))
    now = time.monotonic()
    with at_once([work.run, *(f.run for f in followers)], stop, figures):
        share = plan.seconds * KILLING
        kills.run(now + share, plan.kills, now + max(3 * share, LEAST_S))
    work.settle_all()


@contextlib.contextmanager
def at_once(
    runs: list[Callable[[threading.Event], None]], stop: threading.Event, figures: Figures
) -> Iterator[None]:
    """Each in a thread, until the block is left; what they raise is a fault of the soak."""
    def guarded(run: Callable[[threading.Event], None]) -> None:
        try:
            run(stop)
        except Exception as err:  # noqa: BLE001  it is counted, and said
            figures.add("faults of the soak itself", 1, repr(err))

    threads = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# ---- hostile peers -------------------------------------------------------------------------


def hostile(cluster: Cluster, names: list[str], plan: Plan, figures: Figures) -> None:
    """Nobody is killed now, so whatever happens to honest sessions is the hostile peers' doing."""
    share = plan.seconds * (1 - KILLING)
    until = time.monotonic() + share
    with staged(cluster) as (stage, revoked):
        sessions = Sessions(cluster, names, (stage.waiting, stage.its_master), figures)
        with sessions.watched():
            kinds = nobodies(cluster, stage, revoked, cluster.top / "nobodies")
            try_all(kinds, figures, plan.every)
            try_socket(cluster.state, figures)
            at_last = max(until + 2 * share, time.monotonic() + LEAST_S)

            def enough() -> bool:
                now, tried = time.monotonic(), figures["malformed frames tried"]
                return now > at_last or (now > until and tried >= plan.frames)

            barrage(stage, figures, enough, plan.seed)


@contextlib.contextmanager
def staged(cluster: Cluster) -> Iterator[tuple[Stage, Trust]]:
    """The ports and certificates that hostile peers use; and those of a node that was revoked."""
    top = cluster.top
    rogues = [
        (name, enrolled(cluster, top / name, name))
        for name in (f"rogue{number}" for number in range(CALLERS))
    ]
    revoked = enrolled(cluster, top / "revoked", "revoked")
    assert cluster.godwit("revoke", "--yes", "revoked").returncode == 0
    with waiting(cluster, top) as node:
        issuer = Issuer()
        adopt(issuer, node)
        its_master = issuer.folder(top / "its-master", "godwit:master:m1")
        yield Stage(
            cluster.address, cluster.state, f"{LOCAL}:{node.port}", issuer, its_master, rogues,
            without(rogues[0][1].client()),
        ), revoked


def count_tracebacks(top: Path, figures: Figures) -> None:
    """In what the daemons wrote."""
    for path in [*top.glob("*.err"), *top.glob("logs/*.log"), *top.glob("logs/*/clientd.log")]:
        count = path.read_text(errors="replace").count("Traceback")
        figures.add("tracebacks in daemons' logs", count, path.name)


def main(argv: list[str]) -> int:
    """The entry point."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(argv)
    kills, frames = (
        min(most, int(each * given.minutes)) if asked is None else asked
        for asked, each, most in ((given.kills, 20, 100), (given.frames, 20_000, 100_000))
    )
    top = Path(tempfile.mkdtemp(prefix="soak"))
    began = time.monotonic()
    print(f"soak of {given.minutes:g} minutes in {top}, seed {given.seed}", flush=True)
    figures = soak(top, Plan(given.minutes * 60, given.nodes, kills, frames, given.seed))
    print(figures.table())
    print(f"\n{time.monotonic() - began:.0f} seconds")
    if bad := figures.bad():
        print("\n".join(["", "bad:", *bad]), f"\nits files are in {top}")
        return 1
    shutil.rmtree(top)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
