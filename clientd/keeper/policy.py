"""What this node lets be done with it, whoever asks: its own file's word.  Pure.

The keeper asks ``objection`` before it takes a launch, so neither the master nor the agent can
go around it.  Folders that are open to copies are the agent's to keep to (clientd.roots): it
does so with the rights it has, which `--agent-user` makes few.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from clientd.keeper.templates import MayReach, Template, any_fits, compile_template, plain_words
from godwit.errors import TaskError
from godwit.task.record import Spec

#: Largest max_tasks; pid_max(5) is no more.
MOST_TASKS = 4 * 1024 * 1024
#: The code of every refusal that comes of the policy.
CODE = "policy"


class Policy(Struct, frozen=True):
    """As clientd.toml has it; without a file, nothing is limited but copies."""

    #: The file; empty: there is none.
    path: str = ""
    #: Whom tasks may run as; None: anybody.
    users: tuple[str, ...] | None = None
    #: Tasks with a process, at once; None: any number.
    max_tasks: int | None = None
    #: As --orphans; empty: not said here.
    orphans: str = ""
    #: The commands that may be run; None: all.
    templates: tuple[Template, ...] | None = None
    #: Names of variables that a launch may set, when there are templates.
    env: tuple[str, ...] = ()
    #: Folders where a task may start besides the files folder, when there are templates.
    folders: tuple[str, ...] = ()
    #: Folders open to copies and removals besides the files folder.
    roots: tuple[str, ...] = ()
    #: Folders that other nodes see under the same path.
    shared: tuple[str, ...] = ()
    #: Whether processes that were started by hand may be adopted; None: where nothing is limited.
    adopt: bool | None = None

    @property
    def adopts(self) -> bool:
        """It does; a file that names users or commands has to say so."""
        open_to_all = self.users is None and self.templates is None
        return open_to_all if self.adopt is None else self.adopt

    def objection(
        self, spec: Spec, words: Sequence[bytes], me: str, may_reach: MayReach
    ) -> TaskError | None:
        """Why this is not started.

        ``words`` are what would be executed, ``me`` is the user that clientd runs as.
        """
        # Whose a process is that runs already is asked when it is looked at.
        whose = "" if spec.kind == "adopted" else self._user(spec.user, me)
        why = whose or self._command(spec, words, may_reach)
        return TaskError(CODE, f"{why} (the policy of this node)") if why else None

    def user_objection(self, user: str, me: str) -> TaskError | None:
        """Why nothing runs as this user here."""
        why = self._user(user, me)
        return TaskError(CODE, f"{why} (the policy of this node)") if why else None

    def _user(self, name: str, me: str) -> str:
        user = name or me
        if self.users is None or user in self.users:
            return ""
        return f"no task runs as {user} here, only as {_listed(self.users)}: say --user"

    def _command(self, spec: Spec, words: Sequence[bytes], may_reach: MayReach) -> str:
        if spec.kind == "adopted":
            return "" if self.adopts else "no process is adopted here: adopt = true would let it"
        if self.templates is None:
            return ""
        if spec.kind != "shell":
            return f"only commands of its templates are run here, no {spec.kind} tasks"
        ways = [words, *([plain_words(spec.argv[0])] if spec.shell else [])]
        if not any_fits(self.templates, ways, lambda path: may_reach(_from(spec.cwd, path))):
            what = "lines for a shell are not" if spec.shell else "this command is not"
            return f"{what} run here, only what fits: {self._shown()}"
        return self._surroundings(spec)

    def _surroundings(self, spec: Spec) -> str:
        """A variable or a working directory can make another program of the same words."""
        for name in spec.env:
            if name not in {each.encode() for each in self.env}:
                return f"the variable {name.decode('utf-8', 'backslashreplace')!r} is not set here"
        if spec.cwd and spec.cwd not in {each.encode() for each in self.folders}:
            return "tasks start in the files folder" + (
                f" or {_listed(self.folders)}" if self.folders else ""
            )
        return ""

    def _shown(self, most: int = 3) -> str:
        """The first of the templates, for an error's one line."""
        assert self.templates is not None
        texts = [template.text[:100] for template in self.templates[:most]]
        more = len(self.templates) - most
        return "; ".join([*texts, *([f"and {more} more"] if more > 0 else [])]) or "nothing"

    def full(self, occupied: int) -> TaskError | None:
        """Why no other task is started while so many have a process."""
        if self.max_tasks is None or occupied < self.max_tasks:
            return None
        return TaskError(
            "max-tasks", f"{occupied} tasks run here, no more than {self.max_tasks} may at once "
                         "(the policy of this node)",
        )

    def lacks(self) -> dict[str, str]:
        """What cannot be done here, each a word, with the reason."""
        found = {}
        if self.templates is not None:
            count = len(self.templates)
            found["shell"] = f"its policy lets {count} template{'' if count == 1 else 's'} run"
            found["python"] = found["shell"]
        if self.users is not None:
            found["other-users"] = f"its policy lets tasks run as {_listed(self.users)}"
        if not self.adopts:
            found["adopted"] = "its policy lets no process be adopted"
        if self.max_tasks is not None:
            found["more-tasks"] = f"its policy lets {self.max_tasks} run at once"
        return found


def _from(folder: bytes, path: bytes) -> bytes:
    return path if path.startswith(b"/") or not folder else folder + b"/" + path


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = len(names) - most
    return ", ".join([*names[:most], *([f"{more} more"] if more > 0 else [])])


# ---- from the file -------------------------------------------------------------------------


class Wrong(ValueError):
    """A key of the file is not as it should be; the text names it."""


def read_policy(path: str, document: Mapping[str, Any]) -> Policy:
    """``document`` is what the TOML says.  Raises Wrong, naming the key and what would be right."""
    _only(document, "", (
        "users", "max_tasks", "orphans", "adopt", "commands", "files", "shared",
    ))
    commands = _table(document, "commands", ("mode", "templates", "env", "folders"))
    files = _table(document, "files", ("roots",))
    shared = _table(document, "shared", ("paths",))
    return Policy(
        path=path,
        users=_users(document),
        max_tasks=_count(document, "max_tasks"),
        orphans=_text(document, "orphans"),
        adopt=_flag(document, "adopt"),
        templates=_templates(commands),
        env=_names(commands),
        folders=_paths(commands, "commands.folders"),
        roots=_paths(files, "files.roots"),
        shared=_paths(shared, "shared.paths"),
    )


def _only(found: Mapping[str, Any], table: str, known: Sequence[str]) -> None:
    for key in found:
        if key not in known:
            raise Wrong(f"{table}{key}: there is no such key; write {_listed(known)}")


def _table(document: Mapping[str, Any], name: str, known: Sequence[str]) -> Mapping[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise Wrong(f"{name}: write it as a table, [{name}]")
    _only(found, f"{name}.", known)
    return found


def _texts(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = found.get(key.rpartition(".")[2], [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise Wrong(f'{key}: write a list of texts, ["...", "..."]')
    return tuple(value)


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        raise Wrong(f'{key}: write a text, "..."')
    return value


def _users(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "users" not in document:
        return None
    users = _texts(document, "users")
    if not users:
        raise Wrong("users: name at least one; leave the key out to allow all")
    return users


def _count(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MOST_TASKS:
        raise Wrong(f"{key}: write a number from 1 to {MOST_TASKS}")
    return value


def _flag(found: Mapping[str, Any], key: str) -> bool | None:
    value = found.get(key)
    if value is not None and type(value) is not bool:
        raise Wrong(f"{key}: write true or false")
    return value


def _paths(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    paths = _texts(found, key)
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise Wrong(f"{key}: {path!r} is no whole path; write one from / on, without ..")
    return paths


def _names(commands: Mapping[str, Any]) -> tuple[str, ...]:
    names = _texts(commands, "commands.env")
    for name in names:
        if "=" in name or "\0" in name:
            raise Wrong(f"commands.env: {name!r} cannot be the name of a variable")
    return names


def _templates(commands: Mapping[str, Any]) -> tuple[Template, ...] | None:
    mode = commands.get("mode", "open")
    if mode not in ("open", "templates"):
        raise Wrong('commands.mode: write "open" or "templates"')
    if mode == "open":
        for key in ("templates", "env", "folders"):
            if key in commands:
                raise Wrong(f'commands.{key}: it needs mode = "templates" beside it')
        return None
    written = commands.get("templates", [])
    if not isinstance(written, list) or not written or not all(
        isinstance(one, list) and all(isinstance(word, str) for word in one) for one in written
    ):
        raise Wrong('commands.templates: write lists of words, [["/usr/bin/x", "{int:n}"], ...]')
    try:
        return tuple(map(compile_template, written))
    except ValueError as err:
        raise Wrong(f"commands.templates: {err}") from err
