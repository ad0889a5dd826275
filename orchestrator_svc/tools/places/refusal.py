"""Parameters that a source of places cannot honour, refused by name."""

from __future__ import annotations

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import ToolFailure


def words_needed(source: str) -> ToolFailure:
    """The refusal of a search for anything at all."""
    return ToolFailure(
        f"{source} needs to know what to look for: give `query`, or a `type` other than any.",
        reason=Reason.ARGUMENTS_INVALID,
        field="query",
    )
