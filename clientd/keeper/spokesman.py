"""Does for an agent of another user what it has no rights to: reads the token, writes the log."""

import os
import pwd

from msgspec.structs import replace

from clientd.keeper import orders
from godwit.log import Log

#: Characters of a line that the agent may have written.
LONGEST = 4000
#: Bytes of a token file that are read; a token has far fewer.
MOST_TOKEN = 4096


class Spokesman:
    """For one agent after the other; does nothing for one that has our own rights."""

    def __init__(self, facts: orders.Facts, user: pwd.struct_passwd | None):
        self._facts = replace(facts, demoted=user is not None)
        self._log: Log | None = None
        if user is not None:
            path = os.path.join(facts.logs, facts.name, "clientd.log")
            self._log = Log(f"agent {facts.name}", path, facts.stderr)

    def facts(self) -> orders.Facts:
        """A new agent's first word.  A token that cannot be read is left to it to complain of."""
        if not self._facts.demoted or not self._facts.token_file:
            return self._facts
        try:
            with open(self._facts.token_file, encoding="ascii") as file:
                return replace(self._facts, token=file.read(MOST_TOKEN))
        except (OSError, UnicodeDecodeError):
            return self._facts

    def learn(self, can: tuple[str, ...], lacks: dict[str, str]) -> None:
        """It took a while to find out what this node can."""
        self._facts = replace(self._facts, can=can, lacks=lacks)

    def say(self, line: orders.Say, agent: int) -> None:
        """One line, in the name of the agent with that pid."""
        if self._log is not None:
            about = {"task": line.task[:LONGEST]} if line.task else {}
            self._log(line.level, line.text[:LONGEST], **about, pid=agent)
