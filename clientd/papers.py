"""Files in a node's trust folder besides its certificates: what it needs to get them."""

#: Key and certificate of its own making, of a node that waits to be adopted.
ORPHAN = "orphan.pem"
#: What the master that adopts it must know.
CODE = "code"
#: The key that is not in use yet, and the request for its certificate.
NEXT_KEY = "next-key.pem"
REQUEST = "request.pem"
