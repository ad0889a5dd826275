"""One mesh for a test file that only reads from it, one of its own for a test that changes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interaction.trust.rooms import Mesh, running


@pytest.fixture
async def mesh(tmp_path: Path, socket_dir: Path) -> AsyncIterator[Mesh]:
    """The four rooms, fresh."""
    async with running(tmp_path, socket_dir) as started:
        yield started
