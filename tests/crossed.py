"""What grpc.aio says on the client's side where a write crosses the end of its call: it calls that a fault of its own.

The status that the server sent is lost then; whoever wants it has to ask again.
"""

CROSSED = "Internal error from Core"
