"""The framing that every provider streams in: server-sent events, of which only the data lines matter."""

from __future__ import annotations

from llm_svc.errors import ProviderGarbage

MAX_LINE_BYTES = 1 << 20


class DataLines:
    """Bytes in, the payloads of whole data lines out. Raises ProviderGarbage for a line over the limit."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that these bytes complete, in order."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise ProviderGarbage
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
