"""Every tool that ships keeps the contract of a tool, with a world outside that answers in its services' forms."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_svc.tools.tool import Tool
from tests.contracts.tool import ToolContract
from tests.unit.orchestrator_svc.kit import NAMES, standing_tools


@pytest.mark.requirement("AGT-2", "AGT-3", "TOOL-5")
class TestBuiltIn(ToolContract):
    @pytest.fixture(params=NAMES)
    def tool(self, request: pytest.FixtureRequest) -> Tool[Any]:
        return standing_tools()[request.param]
