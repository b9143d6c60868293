"""The ship of a move: a task's log and its snapshot, straight from one node to another.

Both ends block, and run in a thread of their own at each end of a connection.  Most of it goes
while the task still runs; godwit.ship.words has the protocol.
"""

from godwit.ship.receiving import Quay, Receiving, Shipped
from godwit.ship.sending import Sending, no_file

__all__ = ["Quay", "Receiving", "Sending", "Shipped", "no_file"]
