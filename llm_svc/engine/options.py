"""What the engine's process is started with; it travels as JSON in the child's arguments."""

from __future__ import annotations

import msgspec

# A cancelled or newly come request waits for at most one batch of another's prompt, so batches are small. Read
# with the 1.5 B model on 2 shared cores, a prompt of 866 tokens: 73-84 tokens/s in batches of 256, 56-61 in 128,
# 83 in 512, 49-73 in the library's own 2,048.
BATCH_TOKENS = 256
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
