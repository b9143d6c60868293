"""Who may join, and which certificate is whose.  Pure.

A token lets so many machines in within its time; the master keeps the hash of its secret.  For
each node's name the master keeps the hashes of its leaves: the one in use and, after a renewal,
the next.  A certificate that the authority signed but that is not among them is worth nothing.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from godwit.errors import UsageError
from godwit.names import check_node_name, is_node_name
from godwit.wire import operations as op
from godwit.wire.tokens import Token, digest, matches
from masterd import actions as do
from masterd.confirms import Confirms
from masterd.history import History
from masterd.registry import Node, Registry, State

#: Most uses and longest life, seconds, of one token.
MOST_USES = 10_000
LONGEST_S = 366 * 24 * 3600
#: The code for what is refused because the master's disk is full.
UNRECORDED = "unrecorded"
#: Seconds between two renewals of one node's certificate.
RENEWALS_S = 60.0


class Admission:
    """Tokens and leaves."""

    def __init__(
        self, registry: Registry, history: History, confirms: Confirms, ca: str,
        secret: Callable[[int], str],
    ):
        self._registry = registry
        self._history = history
        #: sha256 of the authority's certificate.
        self._ca = ca
        self._secret = secret
        self.tokens: dict[str, do.KeepToken] = {}
        #: By node: the leaf in use and, after a renewal, the next.
        self.leaves: dict[str, tuple[str, ...]] = {}
        self._confirms = confirms
        #: By who asked to join: the token as it was before, till its use is on the disk.
        self._spending: dict[int, do.KeepToken] = {}
        #: By node, monotonic seconds of its last renewal.
        self._renewed: dict[str, float] = {}

    # ---- tokens ----------------------------------------------------------------------------

    def make_token(
        self, operator: int, request: op.MakeToken, wall: float
    ) -> Iterator[do.Action]:
        """Raises UsageError for limits that are none."""
        if not 1 <= request.uses <= MOST_USES:
            raise UsageError(f"uses: 1 to {MOST_USES}", code="usage", exit_status=2)
        if not 0 < request.ttl_s <= LONGEST_S:
            raise UsageError("a token lives up to a year", code="usage", exit_status=2)
        if request.node:
            check_node_name(request.node)
        token = Token(self._ca, self._secret(8), self._secret(16))
        kept = do.KeepToken(
            token.id, digest(token.secret), request.uses, wall + request.ttl_s, request.node
        )
        self.tokens[token.id] = kept
        yield from self._drop_stale(wall)
        yield kept
        whom = request.node or f"{request.uses} node{'' if request.uses == 1 else 's'}"
        yield from self._history.add(wall, "info", f"token {token.id} made for {whom}")

        def made() -> Iterator[do.Action]:
            yield do.Answer(operator, op.TokenMade(request.id, str(token)))

        def failing(why: str) -> Iterator[do.Action]:
            if self.tokens.pop(token.id, None):
                yield do.DropToken(token.id)
            text = f"{why}: no token was made"
            yield do.Answer(operator, op.Problem(request.id, UNRECORDED, text))

        yield from self._confirms.ask(made, failing)

    def _drop_stale(self, wall: float) -> Iterator[do.Action]:
        for token in [t for t in self.tokens.values() if t.until <= wall]:
            del self.tokens[token.id]
            yield do.DropToken(token.id)

    def join(
        self, asked: int, token: str, secret: str, name: str, peer: str, wall: float
    ) -> Iterator[do.Action]:
        """A machine at ``peer`` wants to be node ``name``: a use is spent before it may."""
        objection = self._objection(token, secret, name, wall)
        if objection is not None:
            yield from self._history.add(
                wall, "warning", f"refused to let {peer} join: {objection[1]}"
            )
            yield do.Deny(asked, *objection)
            return
        kept = self.tokens[token]
        left = do.KeepToken(kept.id, kept.digest, kept.uses - 1, kept.until, kept.node)
        if left.uses:
            self.tokens[token] = left
            yield left
        else:
            del self.tokens[token]
            yield do.DropToken(token)
        self._spending[asked] = kept

        def admit() -> Iterator[do.Action]:
            del self._spending[asked]
            yield do.Admit(asked, name)

        yield from self._confirms.ask(admit, lambda why: self._give_back(asked, why))

    def _give_back(self, asked: int, why: str) -> Iterator[do.Action]:
        """The use that was spent on this machine; unless the token was revoked meanwhile."""
        kept = self._spending.pop(asked)
        if kept.uses:
            now = self.tokens.get(kept.id)
            self.tokens[kept.id] = given = replace(kept, uses=now.uses + 1 if now else 1)
            yield given
        yield do.Deny(asked, UNRECORDED, f"{why}: come again later")

    def _objection(self, token: str, secret: str, name: str, wall: float) -> tuple[str, str] | None:
        kept = self.tokens.get(token)
        # Whatever is wrong with the token, the answer is one: who guesses learns nothing.
        if kept is None or kept.until <= wall or not matches(secret, kept.digest):
            return "bad-token", "the token is not known, used up, or too old"
        if not is_node_name(name):
            return "bad-name", "that is no name for a node"
        if kept.node and kept.node != name:
            return "bad-name", f"the token is for {kept.node}"
        node = self._registry.nodes.get(name)
        if node is not None and (node.connected or (
            node.state is not State.LEFT and not kept.node
        )):
            return "taken", (
                f"another node is called {name} already; `dereg {name}` frees the name, and "
                f"`token --node {name}` is for the same node once more"
            )
        return None

    # ---- leaves ----------------------------------------------------------------------------

    def certified(self, asked: int, name: str, leaf: str, wall: float) -> Iterator[do.Action]:
        """A certificate was signed: it is recorded before it is handed out."""
        self.leaves[name] = (*self.leaves.get(name, ())[:1], leaf)
        yield do.KeepLeaves(name, self.leaves[name])
        yield from self._history.add(
            wall, "info", f"certificate {leaf[:16]} made for {name}", node=name
        )
        yield do.Commit()
        yield do.Hand(asked)

    def knows(self, name: str, leaf: str) -> bool:
        """This certificate is this node's."""
        return leaf in self.leaves.get(name, ())

    def renew(self, node: Node, request: bytes, now: float) -> Iterator[do.Action]:
        """A node wants its next certificate; more often than it could need one, it gets none."""
        due = self._renewed.get(node.name, float("-inf")) + RENEWALS_S
        if node.control is not None and now >= due:
            self._renewed[node.name] = now
            yield do.Renew(node.control, node.name, request)

    def is_somebodys(self, leaf: str) -> bool:
        """Some node has this certificate."""
        return any(leaf in leaves for leaves in self.leaves.values())

    def shown(self, name: str, leaf: str) -> Iterator[do.Action]:
        """The node uses this certificate now: older ones end."""
        known = self.leaves[name]
        if known[0] != leaf:
            self.leaves[name] = known[known.index(leaf) :]
            yield do.KeepLeaves(name, self.leaves[name])

    def forget(self, name: str) -> Iterator[do.Action]:
        """It has given up its certificate itself."""
        if self.leaves.pop(name, None):
            yield do.KeepLeaves(name, ())

    def revoke(self, name: str, wall: float) -> Iterator[do.Action]:
        """From now on, with every token that could let the machine in again.

        The records come first; the caller has them confirmed, and ends its connections.
        """
        self.leaves.pop(name, None)
        yield do.KeepLeaves(name, ())
        for asked, token in self._spending.items():
            if token.node in ("", name):
                self._spending[asked] = replace(token, uses=0)
        ended = [token for token in self.tokens.values() if token.node in ("", name)]
        for token in ended:
            del self.tokens[token.id]
            yield do.DropToken(token.id)
        tokens = f", and {len(ended)} join token{'' if len(ended) == 1 else 's'}" if ended else ""
        yield from self._history.add(
            wall, "warning", f"{name} was revoked: its certificate is worth nothing here{tokens}",
            node=name, notice=True,
        )
