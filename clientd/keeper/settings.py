"""How this clientd was started."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """From the command line, checked."""

    name: str
    #: HOST:PORT to dial, or empty.
    master: str
    #: HOST:PORT to listen on, or empty.
    listen: str
    #: Absolute folders.
    state: str
    logs: str
    #: Seconds of a silent master after which all tasks are ended; 0: never.
    orphans_kill_s: float = 0.0
    #: File with a join token, or empty.
    token_file: str = ""
    #: Bytes after which a log's oldest part is dropped; 0: never.
    log_max: int = 0
