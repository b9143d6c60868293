"""Every error that godwit raises on purpose; the type says whose fault it is.

    GodwitError
    ├── UsageError        the user's: one line at the prompt, nothing changed
    ├── PeerError         the other end's: that connection is closed, with a logged reason
    │   ├── FrameError        bytes that are no frame, or one over its bound
    │   ├── MessageError      a frame that is no message, or one this peer may not send now
    │   └── Refused           the other end said no to our hello
    ├── TaskError         recorded on the task or answered to whoever asked for it
    ├── TransferError     a copy or a removal of files failed; both ends of a copy are told
    └── StartError        a daemon cannot start here

An OSError is translated into one of these at the edge where it arises, ``from err``.
"""


class GodwitError(Exception):
    """The root; never raised itself."""


class UsageError(GodwitError):
    """What the user asked for cannot be done as asked.

    ``code`` is a stable word for scripts, ``hint`` says what would be right,
    ``exit_status`` is 2 for wrong usage and 1 for a refusal.
    """

    def __init__(
        self, message: str, *, code: str = "refused", hint: str = "", exit_status: int = 1
    ):
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.exit_status = exit_status


class PeerError(GodwitError):
    """The other end of a connection broke the protocol; the connection ends."""


class FrameError(PeerError):
    """Bytes that cannot be cut into frames within the bound."""


class MessageError(PeerError):
    """A frame whose payload is no message that this peer may send now."""


class Refused(PeerError):
    """The other end answered our hello with a refusal; ``code`` says which."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code


class TaskError(GodwitError):
    """A task cannot be started or acted on; ``code`` is an errno name or a word of ours."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code


class TransferError(GodwitError):
    """Files cannot be copied or removed as asked.

    ``code`` is a stable word (godwit.bulk.faults lists them), ``text`` names the file.
    ``remote`` is true when it was the other end of the link that failed and said so.
    """

    def __init__(self, code: str, text: str, *, remote: bool = False):
        super().__init__(text)
        self.code = code
        self.text = text
        self.remote = remote


class StartError(GodwitError):
    """A daemon cannot start: its state folder is in use, its address is taken, ..."""
