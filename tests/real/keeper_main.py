"""clientd with another agent: keeper_main.py SOCKET ARGS... runs the fake one for that socket.

With WITHOUT_CGROUPS in its environment it finds none; with WITHOUT_CLONE3 no clone3(2).
"""

import os
import sys

from clientd.__main__ import main
from clientd.keeper import agents, forked, node, nursery
from tests.real import fake_agent

#: Runs a zygote as on a kernel that is older.
OLD_ZYGOTE = (sys.executable, "-P", "-c", """
import sys
from clientd.keeper import forked, zygote
forked.has_clone3 = lambda: False
sys.exit(zygote.main())
""")

if __name__ == "__main__":
    agents.COMMAND = (sys.executable, "-I", "-S", fake_agent.__file__, sys.argv.pop(1))
    if os.environ.pop("WITHOUT_CGROUPS", ""):
        node.contain = lambda settings: (None, "a test wants none")
    if os.environ.pop("WITHOUT_CLONE3", ""):
        forked.has_clone3 = lambda: False
        nursery.COMMAND = OLD_ZYGOTE
    sys.exit(main())
