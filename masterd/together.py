"""Several requests at once on one connection, their answers as they come."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence

from godwit.errors import UsageError
from godwit.wire import operations as op
from masterd.client import Client, Interrupted, Wake, final, payload, readable


class Together:
    """Iterates over (position of the request, reply) until each request has its final answer.

    A Problem is a reply like any: the other requests go on.  A signal comes as Interrupted, with
    position -1.  Leaving early cancels the requests that are not answered.
    Raises MasterGone.
    """

    def __init__(self, client: Client, requests: Sequence[op.Request], wake: Wake):
        self._client = client
        self._requests = requests
        self._wake = wake
        #: By the request's number: its position, and what came for it.
        self._open: dict[int, tuple[int, deque[op.Reply]]] = {}

    def __enter__(self) -> "Together":
        # All or none: what cannot be sent must not leave others under way, unheard.
        for request in self._requests:
            payload(request)
        for position, request in enumerate(self._requests):
            number = self._client.send(request)
            self._open[number] = position, self._client.expect(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._open:
            self._client.forget(number)
            if not self._client.closed:
                with contextlib.suppress(UsageError):
                    self._client.tell(op.Cancel(number))

    def __iter__(self) -> Iterator[tuple[int, op.Reply | Interrupted]]:
        while self._open:
            self._wait()
            yield from self._arrived()
            for number in self._wake.take():
                yield -1, Interrupted(number)

    def _wait(self) -> None:
        """Returns when something may have arrived."""
        client = self._client
        if client.fileno() in readable(None, client.fileno(), self._wake.fileno()):
            client.receive(self._requests[0])

    def _arrived(self) -> Iterator[tuple[int, op.Reply]]:
        for number, (position, inbox) in list(self._open.items()):
            while inbox:
                reply = inbox.popleft()
                if final(reply):
                    self._client.forget(number)
                    del self._open[number]
                yield position, reply
