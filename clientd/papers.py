"""Files in a node's trust folder besides its certificates: what it needs to get them."""

#: Key and certificate of its own making, of a node that waits to be adopted.
ORPHAN = "orphan.pem"
#: What the master that adopts it must know.
CODE = "code"
#: The id of the token that this node joined with, which will not be tried again.
TOKEN_ID = "token-id"
#: The key that is not in use yet, and the request for its certificate.
NEXT_KEY = "next-key.pem"
REQUEST = "request.pem"
