"""clientd.toml: what the owner of this node lets be done with it, read once at the start."""

import os
import pwd
import stat

from clientd.keeper.policy import Policy, Wrong, read_policy
from godwit.errors import StartError
from godwit.log import printable

#: Its name in the state folder.
NAME = "clientd.toml"
#: More is no policy.
MOST_BYTES = 1024 * 1024


def read_file(path: str, files: str) -> Policy:
    """``files`` is the node's folder for files.  Raises StartError: one line, file, key, what."""
    try:
        policy = read_policy(path, _document(path))
        _check_users(policy)
        _check_programs(policy, files)
    except Wrong as err:
        raise StartError(f"{path}: {printable(str(err))}") from err
    return policy


def _document(path: str) -> dict[str, object]:
    import tomllib  # what a keeper has in memory is copied at every fork

    try:
        with open(path, "rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            data = file.read(MOST_BYTES + 1)
    except OSError as err:
        raise StartError(f"{path}: {err.strerror}") from err
    if len(data) > MOST_BYTES:
        raise StartError(f"{path}: longer than {MOST_BYTES} bytes: that is no policy")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as err:
        raise StartError(f"{path}: byte {err.start} is no UTF-8") from err
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise StartError(f"{path}: not TOML: {printable(str(err))}") from err


def _check_owner(path: str, found: os.stat_result) -> None:
    """Whoever may write it decides what may be done here."""
    if not stat.S_ISREG(found.st_mode):
        raise StartError(f"{path}: is no file")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise StartError(
            f"{path}: others may change it (owner {found.st_uid}, mode "
            f"{stat.S_IMODE(found.st_mode):04o}); chown it to root and chmod 644 it"
        )


def _check_users(policy: Policy) -> None:
    for name in policy.users or ():
        try:
            pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise Wrong(f"users: there is no user {name!r} on this machine") from None


def _check_programs(policy: Policy, files: str) -> None:
    """A program that a copy could replace would be any program."""
    folders = [files, *policy.roots]
    for template in policy.templates or ():
        program = os.path.realpath(os.fsdecode(template.program))
        for folder in folders:
            above = os.path.realpath(folder)
            if os.path.commonpath((program, above)) == above:
                raise Wrong(
                    f"commands.templates: {program} lies in {folder}, where a copy could "
                    "replace it; keep programs out of files.roots and the files folder"
                )
