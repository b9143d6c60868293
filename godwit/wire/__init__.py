"""The wire: bytes <-> frames <-> messages, one connection's life, and the links that carry it."""
