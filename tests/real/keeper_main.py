"""clientd with another agent: keeper_main.py SOCKET ARGS... runs the fake one for that socket.

With WITHOUT_CGROUPS in its environment it finds none.
"""

import os
import sys

from clientd.__main__ import main
from clientd.keeper import agents, node
from tests.real import fake_agent

if __name__ == "__main__":
    agents.COMMAND = (sys.executable, "-I", "-S", fake_agent.__file__, sys.argv.pop(1))
    if os.environ.pop("WITHOUT_CGROUPS", ""):
        node.contain = lambda settings: (None, "a test wants none")
    sys.exit(main())
