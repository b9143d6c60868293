"""Nodes that wait to be called: what is checked before, and what the operator is told.  Pure."""

from collections.abc import Callable, Iterator

from godwit.errors import UsageError
from godwit.names import HIGHEST_PORT, check_node_name
from godwit.wire import operations as op
from godwit.wire.tokens import read_code
from masterd import actions as do
from masterd.admission import Admission
from masterd.nodes import Nodes
from masterd.registry import Registry, State


class Registering:
    def __init__(
        self, registry: Registry, admission: Admission, nodes: Nodes,
        confirm: Callable[[int, op.Ok], Iterator[do.Action]],
    ):
        """``confirm`` answers an operator once what was done is on the disk."""
        self._registry = registry
        self._admission = admission
        self._nodes = nodes
        self._confirm = confirm

    def begin(
        self, operator: int, request: op.Register, now: float
    ) -> Iterator[do.Action]:
        """Calls the node.  Raises UsageError for what cannot become one."""
        self._check(request)

        def answer(code: str, text: str) -> Iterator[do.Action]:
            if code:
                yield do.Answer(operator, op.Problem(request.id, code, text))
            else:
                done = op.Ok(request.id, f"{request.name} is registered")
                yield from self._confirm(operator, done)

        yield from self._nodes.register(
            request.name, request.host, request.port, request.code, answer, now
        )

    def _check(self, request: op.Register) -> None:
        check_node_name(request.name)
        if not 0 < request.port <= HIGHEST_PORT:
            raise UsageError(
                f"{request.port} is no port to call", code="bad-address", exit_status=2
            )
        known = self._registry.nodes.get(request.name)
        if known is not None and known.state is not State.LEFT:
            at = f", at {known.address}" if known.address else ""
            raise UsageError(
                f"{request.name} is a node already{at}", code="exists",
                hint=f"`dereg {request.name}` frees the name",
            )
        if self._nodes.is_registering(request.name):
            raise UsageError(f"{request.name} is being registered already", code="exists")
        if request.code:
            read_code(request.code)
        elif request.name not in self._admission.leaves:
            raise UsageError(
                f"{request.name} is not a node of this cluster yet: its code is needed",
                code="code-needed",
                hint="clientd --listen prints it; --code-file FILE or GODWIT_CODE gives it",
            )
