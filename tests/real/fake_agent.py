"""An agent that is the test: fake_agent.py SOCKET FD hands its end of the keeper's pair over.

It lives until the test hangs up, or the keeper ends it.  On SIGTERM it ends; with nothing to hand
itself to it ends at once, with status 3.
"""

import array
import os
import socket
import sys


def main() -> int:
    path, fd = sys.argv[1], int(sys.argv[2])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as test:
        try:
            test.connect(path)
        except OSError:
            return 3
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        test.sendmsg([b"%d" % os.getpid()], [rights])
        test.recv(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
