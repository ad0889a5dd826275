"""A small server of tools, made with the official kit: over stdin and stdout, or HTTP at a port."""

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("notes")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find(words: str) -> str:
    """Finds notes."""
    return f"found {words}"


@server.tool()
def write(text: str) -> str:
    """Writes a note."""
    return f"wrote {text}"


@server.tool()
def large() -> str:
    """Answers ten megabytes."""
    return "x" * 10_000_000


@server.tool()
def fails() -> str:
    """Fails."""
    raise ValueError("no such note")


@server.tool()
def limits() -> str:
    """Tells its limits."""
    import resource

    return f"{resource.getrlimit(resource.RLIMIT_DATA)[1]} {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}"


@server.tool()
async def hangs() -> str:
    """Never answers."""
    import anyio

    await anyio.sleep(600)
    return ""


@server.tool()
def looks(path: str) -> str:
    """Reads a file and a variable."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return f"{type(error).__name__} {os.environ.get('NOTES_KEY')} {sorted(os.environ)}"


if __name__ == "__main__":
    server.run("stdio") if len(sys.argv) < 2 else server.run("streamable-http", port=int(sys.argv[1]))
