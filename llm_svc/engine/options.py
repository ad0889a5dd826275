"""What the engine's process is started with; it travels as JSON in the child's arguments."""

from __future__ import annotations

import msgspec

# Measured with the 1.5 B model on 2 cores: 128 reads a prompt as fast as the library's 2,048 does, and a
# cancelled or newly come request waits for at most one such batch (2 s), not for a whole prompt.
BATCH_TOKENS = 128
PROMPT_CACHE_MIB = 1024
READY = b"ready\n"  # the one line the child says, when it serves


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One engine: its model file, its socket, and what it may use.

    ``context_tokens`` is shared by the ``parallel`` slots. Prompts of conversations that have no slot are
    kept in up to ``prompt_cache_mib`` of memory. ``state_dir`` receives saved prefixes. Raises ValueError for
    a socket that does not end in ``.sock``: the library would take it for the name of a host.
    """

    model: str
    socket: str
    state_dir: str
    context_tokens: int
    parallel: int
    threads: int
    batch_tokens: int = BATCH_TOKENS
    prompt_cache_mib: int = PROMPT_CACHE_MIB

    def __post_init__(self) -> None:
        if not self.socket.endswith(".sock"):
            raise ValueError("the engine's socket must end in .sock")
