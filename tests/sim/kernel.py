"""A fake machine: programs that run, write and end; a disk whose unsynced end may be lost."""

from collections.abc import Callable
from dataclasses import dataclass, field

from clientd.keeper.processes import Process as Seen
from tests.sim.world import Broken, World

SIGKILL, SIGTERM = 9, 15


@dataclass
class Program:
    """One process: the root of a task."""

    task: str
    pid: int
    ticks: int
    boot: str
    ended: bool = False
    #: As wait(2) has it, once it ended; None when the machine went with it.
    status: int | None = None
    paused: bool = False
    stubborn: bool = False


@dataclass
class Disk:
    """One file: what was written, and how much of it survives a power cut for sure."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    full: bool = False


class Kernel:
    """All that is true of one machine, whatever anybody believes."""

    def __init__(self, world: World, node: str):
        self.world = world
        self.node = node
        self.boot = f"{node}-boot0"
        self._boots = 0
        self._pid = world.dice.randrange(100, 1000)
        #: task -> its only run.
        self.runs: dict[str, Program] = {}
        self.logs: dict[str, bytearray] = {}
        self.journal = Disk()
        self.identity = {"node": f"{node}-id", "master": ""}
        #: Tasks of which somebody was told that they were never started.
        self.denied: set[str] = set()
        #: The running keeper's and the followers' ears.
        self.on_end: Callable[[Program], None] | None = None
        self.on_growth: dict[int, tuple[str, Callable[[], None]]] = {}

    # ---- programs --------------------------------------------------------------------------

    def spawn(self, task: str, argv: tuple[bytes, ...]) -> Program:
        """argv: run SECONDS CODE LINES STUBBORN.  Its first act is on record here."""
        if task in self.runs:
            raise Broken(f"{task} was started twice on {self.node}")
        if task in self.denied:
            raise Broken(f"{task} is started although it was said never to have been")
        self._pid += self.world.dice.randrange(1, 5)
        program = Program(task, self._pid, int(self.world.now * 100), self.boot)
        program.stubborn = argv[4] == b"1"
        self.runs[task] = program
        seconds, lines = float(argv[1]), int(argv[3])
        for number in range(lines):
            when = seconds * (number + self.world.dice.random()) / lines
            self.world.at(when, self._write, program)
        self.world.at(seconds, self._end, program, int(argv[2]) << 8)
        self.world.say(self.node, "starts", task, "pid", program.pid)
        return program

    def _write(self, program: Program) -> None:
        if program.ended:
            return
        log = self.logs.get(program.task)
        if log is None:
            return  # unlinked: it writes into nowhere
        for _ in range(self.world.dice.randrange(1, 8)):
            log += f"{program.task} {len(log):06}\n".encode()
        for task, grown in list(self.on_growth.values()):
            if task == program.task:
                grown()

    def _end(self, program: Program, status: int) -> None:
        if program.paused and status & 0x7F != SIGKILL:
            self.world.at(0.5, self._end, program, status)
            return
        if program.ended:
            return
        program.ended, program.status = True, status
        self.world.say(self.node, "ends", program.task, "status", status)
        if self.on_end:
            self.on_end(program)

    def signal(self, program: Program, number: int) -> None:
        if number == SIGKILL or not program.stubborn:
            self._end(program, number)

    def end_all(self) -> None:
        for program in self.runs.values():
            program.paused = False
            self._end(program, SIGKILL)

    def living(self) -> list[Program]:
        return [run for run in self.runs.values() if not run.ended]

    def look(self, program: Program) -> Seen | None:
        if program.ended or program.boot != self.boot:
            return None
        return Seen(program.pid, "S", 1, program.pid, program.pid, program.ticks, 0)

    def reinstall(self) -> None:
        """Another machine under the same name, with nothing on its disk."""
        self._boots += 1
        self.identity = {"node": f"{self.node}-id{self._boots}", "master": ""}
        self.journal = Disk()
        self.logs.clear()

    # ---- power -----------------------------------------------------------------------------

    def power_cut(self) -> None:
        """Everything stops; of what was not synced a part is on the disk, and may be torn."""
        for run in self.living():
            run.ended = True
        self._boots += 1
        self.boot = f"{self.node}-boot{self._boots}"
        self.on_growth.clear()
        self.on_end = None
        journal = self.journal
        lost = len(journal.data) - journal.synced
        if lost > 0:
            del journal.data[journal.synced + self.world.dice.randrange(lost + 1):]
        journal.synced = len(journal.data)
