"""One scripted mesh for all tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.house import House, house


@pytest.fixture(scope="session")
def home() -> Iterator[House]:
    """A running mesh with the scripted model, and an account."""
    with house() as running:
        assert running.mesh("chat", "--once", "hello").returncode == 0
        yield running
