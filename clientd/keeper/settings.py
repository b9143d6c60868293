"""How this clientd was started."""

from msgspec import Struct, field

from clientd.keeper.policy import Policy
from godwit.errors import UsageError

#: Longest silence, seconds, that a policy can ask for: about a year.
LONGEST_S = 366 * 24 * 3600


class Settings(Struct, frozen=True):
    """From the command line, checked."""

    name: str
    #: HOST:PORT to dial, or empty.
    master: str
    #: HOST:PORT to listen on, or empty.
    listen: str
    #: Absolute folders.
    state: str
    logs: str
    #: Seconds of a silent master after which all tasks are ended; 0: never; None: not said.
    orphans_kill_s: float | None = None
    #: File with a join token, or empty.
    token_file: str = ""
    #: The node's policy file as --config names it; empty: the one in the state folder, if any.
    config: str = ""
    #: Whom the agent runs as; empty: the same as we.
    agent_user: str = ""
    policy: Policy = field(default_factory=Policy)
    #: Bytes after which a log's oldest part is dropped; 0: never.
    log_max: int = 0


def orphans_kill_s(policy: str) -> float:
    """Seconds; 0 for never.  Raises UsageError."""
    if policy == "keep":
        return 0.0
    word, _, seconds = policy.partition("=")
    is_number = seconds.isascii() and seconds.isdigit() and len(seconds) <= 9
    if word == "kill" and is_number and 0 < int(seconds) <= LONGEST_S:
        return float(seconds)
    raise UsageError(
        f"--orphans {policy!r} is no policy", code="bad-policy", exit_status=2,
        hint=f"write keep, or kill=SECONDS with 1 to {LONGEST_S}",
    )
