"""Malformed frames, thrown at live ports by many callers at once.

Each frame is damaged until the decoder for its place refuses it, then sent.  What must follow is
that the other end hangs up, without a word or with a Refuse; a peer that is not yet known gets
nothing else.
"""

import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from godwit.errors import GodwitError, MessageError
from godwit.names import split_address
from godwit.places import master_socket
from godwit.wire import frames, joining, messages, operations, trust
from godwit.wire import messages as wire
from godwit.wire.preface import ADOPT, BULK, CONTROL, JOIN, OPERATOR
from tests.certificates import Issuer
from tests.real.lines import PATIENCE_S, Line, hello
from tests.real.soaking.figures import Figures
from tests.test_fuzz import SEEDS, damage

#: What no frame begins with, or holds.
SHAPES = (
    b"\xff" * 4, (frames.LOCAL_LIMIT + 1).to_bytes(4, "big"), frames.encode(b""),
    frames.encode(b"\xc1"), frames.encode(b"\x91" * 4000), frames.encode(b"\x81\xa2is\xa5Hello"),
)
#: What a TLS server says in clear to who speaks no TLS: an alert, RFC 8446 section 6.
ALERT, ALERT_SIZE = 0x15, 7

Decode = Callable[[bytes], object]


def malformed(dice: random.Random, decode: Decode) -> bytes:
    """A frame that ``decode``, or the cutting of frames, refuses."""
    if dice.random() < 0.1:
        return dice.choice(SHAPES)
    while True:
        payload = damage(dice, dice.choice(SEEDS))
        try:
            decode(payload)
        except (MessageError, GodwitError):
            return frames.encode(payload, frames.LOCAL_LIMIT)


def word_of_joining(payload: bytes) -> object:
    """As joining.receive reads it."""
    near, far = socket.socketpair()
    with near, far:
        near.sendall(frames.encode(payload))
        near.shutdown(socket.SHUT_WR)
        return joining.receive(far, joining.Join)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the ports are, and what certificates callers have."""

    master: str
    state: str
    #: A clientd that waited, and was taken by a master that the soak plays.
    waiting: str
    issuer: Issuer
    its_master: trust.Trust
    #: Nodes that the soak plays, one for each caller.
    rogues: Sequence[tuple[str, trust.Trust]]
    bare: ssl.SSLContext


@dataclass(slots=True)
class Caller:
    """One thread's part."""

    stage: Stage
    number: int
    dice: random.Random
    source: str
    name: str
    tls: ssl.SSLContext
    as_master: ssl.SSLContext

    @classmethod
    def of(cls, stage: Stage, number: int, seed: int) -> "Caller":
        name, folder = stage.rogues[number]
        return cls(
            stage, number, random.Random(seed * 1000 + number), f"127.0.9.{number + 1}", name,
            folder.client(), stage.its_master.client(),
        )

    # Each gives what went wrong, or nothing.

    def raw_at_master(self) -> str:
        preface = self.dice.choice((CONTROL, JOIN, BULK, OPERATOR, ADOPT, self.dice.randbytes(4)))
        return self._raw(self.stage.master, preface)

    def raw_at_waiting(self) -> str:
        preface = self.dice.choice((CONTROL, ADOPT, BULK, JOIN, self.dice.randbytes(4)))
        return self._raw(self.stage.waiting, preface)

    def _raw(self, address: str, preface: bytes) -> str:
        data = malformed(self.dice, messages.decode_opening)
        with socket.create_connection(
            split_address(address), PATIENCE_S, (self.source, 0)
        ) as link:
            return heard_by(link, preface + data + b"\0" * 8)

    def stranger_joins(self) -> str:
        data = malformed(self.dice, word_of_joining)
        # The master shows its certificate before it hears anything.
        return self._say(Line(self.stage.master, JOIN, self.stage.bare, self.source), data, 1)

    def opens(self) -> str:
        preface = self.dice.choice((CONTROL, BULK))
        decode = messages.decode_opening if preface == CONTROL else refuse_all
        line = Line(self.stage.master, preface, self.tls, self.source)
        return self._say(line, malformed(self.dice, decode), 0)

    def welcomed(self) -> str:
        """On control; now and then on stream too."""
        with Line(self.stage.master, CONTROL, self.tls, self.source) as control:
            welcome(control, self.name)
            if self.dice.random() < 0.3:
                stream = Line(self.stage.master, CONTROL, self.tls, self.source)
                with stream:
                    welcome(stream, self.name, "stream")
                    stream.send(malformed(self.dice, messages.decode_stream_from_node))
                    ended(stream)
                return ""
            control.send(malformed(self.dice, messages.decode_from_node))
            ended(control)
        return ""

    def operator(self) -> str:
        data = malformed(self.dice, operations.decode_request)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(PATIENCE_S)
            link.connect(master_socket(self.stage.state))
            return heard_by(link, OPERATOR + data)

    def its_master(self) -> str:
        """Before and after the node's welcome."""
        with Line(self.stage.waiting, CONTROL, self.as_master, self.source) as line:
            if self.dice.random() < 0.5:
                line.send(malformed(self.dice, messages.decode_opening))
                return "" if not list(line.hear()) else "it was answered"
            line.say(wire.Adopt(wire.VERSION, "m1", "web7", "stream"))
            if not isinstance(line.heard(messages.decode_opening), wire.Hello):
                return "its master is not taken"
            line.say(wire.Welcome("m1"))
            line.send(malformed(self.dice, messages.decode_stream_from_master))
            ended(line)
        return ""

    def _say(self, line: Line, data: bytes, granted: int) -> str:
        with line:
            line.send(data)
            said = list(line.hear())
        return "" if len(said) <= granted or refusal(said[-1]) else f"it was told {said[-1]!r}"


def refuse_all(payload: bytes) -> object:
    """Whatever is shown is no ticket of a copy."""
    raise MessageError("no ticket")


def refusal(payload: bytes) -> bool:
    with contextlib.suppress(MessageError):
        return isinstance(messages.decode_opening(payload), wire.Refuse)
    return False


def welcome(line: Line, name: str, channel: str = "control") -> None:
    line.say(hello(name, channel))
    answer = line.heard(messages.decode_opening)
    if not isinstance(answer, wire.Welcome):
        raise GodwitError(f"{name} got {answer}")


def ended(line: Line) -> None:
    """Waits till the other end hangs up.  Raises TimeoutError."""
    for _ in line.hear():
        pass


def heard_by(link: socket.socket, data: bytes) -> str:
    """Sends in clear; a complaint when anything but a hang-up, or an alert, comes."""
    said = b""
    try:
        link.sendall(data)
        while part := link.recv(4096):
            said += part
    except TimeoutError:
        return "it did not hang up"
    except OSError:  # reset: it hung up before it had read all
        pass
    alert = said[:1] == bytes([ALERT]) and len(said) <= ALERT_SIZE
    return "" if not said or alert else f"it was told {said[:100]!r}"


#: Figure -> how often, and what.
ATTACKS: dict[str, tuple[float, Callable[[Caller], str]]] = {
    "  on the master's port, no TLS": (30, Caller.raw_at_master),
    "  on the master's port, TLS of strangers": (2, Caller.stranger_joins),
    "  on the master's port, before the welcome": (2, Caller.opens),
    "  on the master's port, as a welcomed node": (2, Caller.welcomed),
    "  on the master's Unix socket": (45, Caller.operator),
    "  on a waiting clientd's port, no TLS": (20, Caller.raw_at_waiting),
    "  on a waiting clientd's port, as its master": (2, Caller.its_master),
}
#: There is one stream connection of a master's at a time; so one caller plays the master.
ALONE = "  on a waiting clientd's port, as its master"


def barrage(stage: Stage, figures: Figures, enough: Callable[[], bool], seed: int) -> None:
    """All callers at once, until there is enough."""
    def call(number: int) -> None:
        caller = Caller.of(stage, number, seed)
        names = [name for name in ATTACKS if number == 0 or name != ALONE]
        # The one who plays the master does it for all of them.
        weights = [
            ATTACKS[name][0] * (len(stage.rogues) if name == ALONE else 1) for name in names
        ]
        while not enough():
            (name,) = caller.dice.choices(names, weights)
            try:
                complaint = ATTACKS[name][1](caller)
            except TimeoutError:
                complaint = "it did not hang up"
            except (OSError, GodwitError) as err:
                figures.add("faults of the soak itself", 1, f"{name.strip()}: {err!r}")
                continue
            figures.add("malformed frames tried")
            figures.add(name)
            if complaint:
                figures.add("malformed frames not ended by a hang-up", 1, f"{name}: {complaint}")

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(stage.rogues))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
