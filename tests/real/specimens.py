"""Programs that know nothing of godwit, for the tests that freeze and move them.

Each writes 0, 1, 2, ..., a line for each number, for as long as it is let; SIGTERM ends it with 7.
"""

import subprocess
import sys
from pathlib import Path

PROGRAMS: dict[str, tuple[str, ...]] = {
    "sh pipeline": (
        "bash", "-c",
        "trap 'exit 7' TERM\n"
        "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done | grep --line-buffered '' "
        "| sed -u 's/^//' &\n"
        "while :; do wait; done",
    ),
    "python": (
        sys.executable, "-I", "-S", "-c",
        "import itertools, os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n"
        "for n in itertools.count():\n"
        "    print(n, flush=True)\n"
        "    time.sleep(0.005)\n",
    ),
    "perl": (
        "perl", "-e",
        "$| = 1; $SIG{TERM} = sub { exit 7 }; "
        "for ($n = 0;; $n++) { print \"$n\\n\"; select(undef, undef, undef, 0.005) }",
    ),
    "handler": (
        "sh", "-c",
        "trap 'n=$((n+1)); [ $n = 2 ] && exit 7; kill -TERM $$' TERM; n=0; i=0\n"
        "while :; do echo $i; i=$((i+1)); sleep 0.005; done",
    ),
}
#: A row for each number that is told, committed before; SIGTERM is taken between two.
#:
#: Fact: with a rollback journal SQLite looks whether its file's inode is still the one that it
#: opened (SQLITE_READONLY_DBMOVED), and writes no more after a move to another file system.  With a
#: write-ahead log it does not look.
SQLITE = (
    sys.executable, "-I", "-c",
    "import itertools, signal, sqlite3, sys, time\n"
    "ended = []\n"
    "signal.signal(signal.SIGTERM, lambda *_: ended.append(1))\n"
    "rows = sqlite3.connect('rows.db', isolation_level=None)\n"
    "rows.execute('pragma journal_mode=wal')\n"
    "rows.execute('create table rows (n integer primary key, text)')\n"
    "for n in itertools.count():\n"
    "    rows.execute('begin immediate')\n"
    "    rows.execute('insert into rows values (?, ?)', (n, 'x' * 500))\n"
    "    time.sleep(0.002)\n"
    "    rows.execute('commit')\n"
    "    print(n, flush=True)\n"
    "    if ended:\n"
    "        rows.close()\n"
    "        sys.exit(7)\n",
)
#: threads MIB: four threads, one of which writes what the others count, and so much memory that is
#: checked at the end: 8 is the end when a thread stands still, 9 when its memory is another.
THREADS = r"""
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static volatile long turns[3];
static void *spin(void *turn) { for (;;) { ++*(volatile long *)turn; usleep(1000); } }
int main(int argc, char **argv) {
    size_t size = (size_t)atol(argv[1]) << 20;
    unsigned char *heap = malloc(size);
    for (size_t i = 0; i < size; i += 64) heap[i] = i * 2654435761u >> 13;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, spin, (void *)&turns[i]);
    struct timespec pause = {0, 5000000};
    for (long n = 0;; n++) {
        printf("%ld\n", n);
        fflush(stdout);
        if (sigtimedwait(&term, NULL, &pause) != SIGTERM) continue;
        for (int i = 0; i < 3; i++) {
            long before = turns[i];
            for (int j = 0; turns[i] == before; j++) { if (j == 2000) return 8; usleep(1000); }
        }
        for (size_t i = 0; i < size; i += 64)
            if (heap[i] != (unsigned char)(i * 2654435761u >> 13)) return 9;
        return 7;
    }
}
"""


def compiled(folder: Path) -> str:
    """Where ``threads`` is, once gcc has made it."""
    (folder / "threads.c").write_text(THREADS)
    subprocess.run(
        ["gcc", "-O1", "-pthread", "-o", "threads", "threads.c"], cwd=folder, check=True
    )
    return str(folder / "threads")
