"""Tool calls whose fragments are still coming, of whatever wire they come on."""

from __future__ import annotations

from llm_svc.errors import ProviderGarbage
from llm_svc.generation import Request, ToolCall, calls_in

MAX_ARGUMENT_CHARS = 256 * 1024
MAX_CALLS = 128


class _Pending:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.size = 0


class PendingCalls:
    """Fragments in, whole calls out. Raises ProviderGarbage for too many, too long and nameless ones.

    ``size`` is how many characters of arguments came.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pending: dict[int, _Pending] = {}
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, index: int, *, id: str | None, name: str | None, arguments: str | None) -> None:
        """One fragment of the call at that place; the first id and the first name stand."""
        pending = self._pending.setdefault(index, _Pending())
        if len(self._pending) > MAX_CALLS:
            raise ProviderGarbage
        pending.id = pending.id or id or ""
        pending.name = pending.name or name or ""
        if arguments:
            pending.arguments.append(arguments)
            pending.size += len(arguments)
            self.size += len(arguments)
        if pending.size > MAX_ARGUMENT_CHARS:
            raise ProviderGarbage

    def whole(self) -> list[ToolCall]:
        """The calls in their order; one without an id, or with one that is taken, gets one of ours."""
        taken = {call.id for call in calls_in(self._request.messages)}
        calls: list[ToolCall] = []
        for _, pending in sorted(self._pending.items()):
            if not pending.name:
                raise ProviderGarbage
            id = pending.id if pending.id and pending.id not in taken else _free(taken)
            taken.add(id)
            arguments = "".join(pending.arguments) or "{}"
            calls.append(ToolCall(id=id, name=pending.name, arguments=arguments))
        return calls


def _free(taken: set[str]) -> str:
    number = len(taken) + 1
    while f"call_{number}" in taken:
        number += 1
    return f"call_{number}"
