"""Why CRIU failed, in the user's words: from its log, by a table.  Pure.

The first line with ``Error`` is the cause; those after it are its consequences.  The texts are of
CRIU 3.17 to 4.1; one that is not known here is shown as CRIU has it.
"""

import re

from msgspec import Struct


class Complaint(Struct, frozen=True):
    """Why it failed: a word for programs, a line for people, and what would change it."""

    code: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


#: Errors that change nothing: CRIU says them and goes on.
_HARMLESS = (
    "rlimit: Can't setup RLIMIT_NOFILE for self",
    "Can't open /run/criu.kdat",
    "Unable to get tun network namespace",
)

#: What its line has in it -> the complaint; groups go in as {0}, {1}.
_TABLE: tuple[tuple[str, Complaint], ...] = (
    (r"Connected TCP socket|In-flight connection", Complaint(
        "tcp", "it has a TCP connection", "it can move once that is closed")),
    (r"tcp.*(?:Can't|Unable).*repair|Unable to (?:turn|switch).*repair", Complaint(
        "tcp", "its TCP connection cannot be taken along", "it can move once that is closed")),
    (r"Can't bind .*: Address already in use", Complaint(
        "address", "an address of one of its sockets is in use there",
        "it can move once that is free")),
    (r"(?:External socket is used|unix: .*(?:external|Runaway|bind)|"
     r"Unix socket.*without peer|Can't dump half of stream unix)", Complaint(
        "unix-socket", "it has a Unix socket whose other end is outside of it",
        "it can move once that is closed")),
    (r"(?:tty|pty|shell-job|dangling tty|slave peer)", Complaint(
        "tty", "it has a terminal open that is not its own",
        "start it with execute: tasks have none")),
    (r"Can't dump file \d+ of that type \[\d+\] \((.+?)\)", Complaint(
        "file-kind", "it has a descriptor of a kind that cannot be saved: {0}",
        "it can move once that is closed")),
    # No such descriptor can be sent over a socket, which is how CRIU gets them: EINVAL.
    (r"io_uring|send_fds failed \(-22\)", Complaint(
        "io-uring", "it uses io_uring, which cannot be saved")),
    # From Linux 6.16 on SO_PASSCRED is of Unix sockets alone; CRIU 4.1 asks it of every socket.
    (r"sockets: Can't get 1:\d+ opt|Unknown socket collected", Complaint(
        "socket", "it has a socket of a kind that cannot be saved here",
        "it can move once that is closed")),
    (r"SysVIPC shmem", Complaint(
        "sysv", "it has System V shared memory, which cannot be saved",
        "it can move once that is detached")),
    (r"perf_event", Complaint("perf", "it has a performance counter open")),
    (r"Can't lookup mount=\d+ for fd=(-?\d+) path=(\S+)", Complaint(
        "mount", "{1} (descriptor {0}) is open on a mount that is not to be found here")),
    (r"Can't handle non-regular mapping", Complaint(
        "device", "it has mapped the memory of a device")),
    (r"file locks are hold|Some file locks", Complaint(
        "file-lock", "it holds a file lock together with a process outside of it")),
    (r"page-pipe: tee: ", Complaint(
        "pipe-limit", "pages cannot be held in pipes here",
        "set sysctl fs.pipe-user-pages-soft=0 and fs.pipe-max-size=4194304, or give clientd "
        "CAP_SYS_RESOURCE")),
    (r"ghost file.*(?:limit|size)|bigger than.*ghost", Complaint(
        "ghost-file", "it has a big file open that was deleted")),
    (r"Can't (?:attach|seize)|Unable to (?:seize|interrupt)|Unseizable|SEIZE", Complaint(
        "traced", "it cannot be stopped: a debugger may hold it", "end the debugger")),
    (r"File (\S+) has bad (size|mode|build-?ID|checksum)[^(]*(\(.*\))?", Complaint(
        "file-differs", "/{0} is not the same there: its {1} differs",
        "install the same version there")),
    (r"Can't open file (\S+) on restore: No such file", Complaint(
        "file-missing", "/{0} is not there", "copy it there, to the same path")),
    (r"Can't open file (\S+) on restore: (.+)", Complaint(
        "file", "/{0} cannot be opened there: {1}")),
    (r"Can't cd to (\S+)|Can't open cwd|Can't set cwd", Complaint(
        "cwd", "its working directory is not there")),
    (r"cpu: .*(?:not|mismatch|lacks|unsupported)|CPU (?:instruction )?capabilities", Complaint(
        "cpu", "the processor there lacks something that this one has")),
    (r"Can't fork for (\d+): File exists|Pid (\d+) do not match expected", Complaint(
        "pid", "a pid that it has is in use there", "start it without --plain")),
    (r"Can't create a directory \(-17\)", Complaint(
        "crowded", "another task was being frozen in the same place", "move it again")),
    (r"No space left on device", Complaint("ENOSPC", "there is no room for its snapshot")),
    (r"Cannot allocate memory|Can't mmap|Can't map", Complaint(
        "memory", "there is not enough memory for it")),
    (r"vdso: |vDSO", Complaint(
        "kernel", "this CRIU is too old for this kernel", "run bin/get-criu")),
    (r"Can't get rlimit", Complaint(
        "rights", "a process of it runs as another user than its init, and clientd has no "
        "CAP_SYS_RESOURCE", "give clientd that")),
    (r"Operation not permitted", Complaint(
        "rights", "clientd lacks a right that CRIU needs", "run it as root")),
)
#: (criu/files.c:1234), and the process it is about.
_PLACE = re.compile(r"\(([\w./-]+:\d+)\)|^\s*\d+:\s*")
_ERROR = re.compile(r"\bError\b[^:]*?(?:\([\w./-]+:\d+\))?: ?(.*)")


def errors(log: str) -> list[str]:
    """Its error lines, without where in CRIU's source they are from."""
    found = (match[1].strip() for match in map(_ERROR.search, log.splitlines()) if match)
    return [line for line in found if line and not any(word in line for word in _HARMLESS)]


def complaint(log: str) -> Complaint:
    """What the first error in a log means."""
    lines = errors(log)
    if not lines and "Permission denied" in log:  # so says whoever was to execute it
        return Complaint("criu", "the task's user may not execute CRIU there",
                         "let all users into the folder that it is in")
    if not lines:
        return Complaint("criu", "CRIU failed and did not say why")
    for line in lines[:3]:
        for pattern, known in _TABLE:
            if match := re.search(pattern, line):
                text = known.text.format(*(group or "" for group in match.groups()))
                return Complaint(known.code, text, known.fix)
    return Complaint("criu", f"CRIU says: {_PLACE.sub('', lines[0])}")
