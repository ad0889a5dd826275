"""The door for MCP clients: streamable HTTP on a socket of its own, with the room's own calls behind it."""
