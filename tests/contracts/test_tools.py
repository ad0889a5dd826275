"""Every tool that ships keeps the contract of a tool."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_svc.app import built_in
from orchestrator_svc.tools.tool import Tool
from tests.contracts.tool import ToolContract


@pytest.mark.requirement("AGT-2", "TOOL-5")
class TestBuiltIn(ToolContract):
    @pytest.fixture(params=list(built_in()), ids=lambda tool: tool.name)
    def tool(self, request: pytest.FixtureRequest) -> Tool[Any]:
        tool: Tool[Any] = request.param
        return tool
