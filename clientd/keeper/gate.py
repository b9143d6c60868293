"""What every launch passes before it is taken: is it well-formed, and does this node allow it?

The agent reads what comes from the network; nothing that it says is believed here.
"""

import os
import pwd

from msgspec import Struct

from clientd.keeper import environment, forked
from clientd.keeper.policy import CODE, Policy
from clientd.within import may_reach
from godwit.errors import TaskError
from godwit.task.record import Spec


class Gate(Struct, frozen=True):
    """One node's."""

    policy: Policy
    #: The node's folder for files.
    files: bytes
    #: Name of the user that we run as.
    me: str
    #: The agent's user, when that is another than ours.
    agent: pwd.struct_passwd | None = None

    def objection(self, spec: Spec, occupied: int) -> TaskError | None:
        """Why this launch is not taken while so many tasks have a process; None: it is."""
        try:
            environment.check(spec)
            self._check_user(spec.user)
        except TaskError as err:
            return err
        words = environment.words(spec)
        return (
            self.policy.objection(spec, words, self.me, self._may_reach)
            or self.policy.full(occupied)
        )

    def objection_to_guest(self, spec: Spec, occupied: int) -> TaskError | None:
        """The same of a task that would come by a move.

        What is restored from images has the rights, and does the work, that are in them, whatever
        the spec says: so it comes only where root may run anything.
        """
        if (refused := self.objection(spec, occupied)) or spec.kind == "python":
            return refused
        if self.policy.user_objection("", self.me):
            text = f"no task runs as {self.me}, and the images of a task could hold one that does"
        elif self.policy.templates is not None:
            text = "only commands of its templates are run, and images cannot be compared with them"
        else:
            return None
        return TaskError(CODE, f"{text} (the policy of this node)")

    def user_of(self, name: str) -> pwd.struct_passwd | None:
        """Whom to become for that name; None: we are that user.  Raises TaskError."""
        self._check_user(name)
        if err := self.policy.user_objection(name, self.me):
            raise err
        user = forked.find_user(name) if name else None
        return None if user is None or user.pw_uid == os.geteuid() else user

    def check_adopted(self, user: str) -> None:
        """A process of this user's (empty: ours) may be brought under care.  Raises TaskError."""
        if self.agent and user == self.agent.pw_name:
            raise TaskError(CODE, f"{user} is the user of this node's agent")
        if err := self.policy.user_objection(user, self.me):
            raise err

    def _check_user(self, name: str) -> None:
        """Raises TaskError."""
        if not name:
            return
        user = forked.find_user(name)
        if self.agent and user.pw_uid == self.agent.pw_uid:
            raise TaskError(
                CODE, f"{name} is the user of this node's agent, which a task could then take over"
            )

    def _may_reach(self, path: bytes) -> bool:
        return may_reach(tuple(map(os.fsencode, self.policy.roots)), self.files, path)
