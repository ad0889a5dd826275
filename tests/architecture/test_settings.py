"""The pages that tell the settings are those the settings make."""

from __future__ import annotations

import pytest

from mesh.settings_page import REMEDY, pages


@pytest.mark.requirement("RUN-6")
def test_the_settings_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in pages().items() if not path.exists() or path.read_text() != text]
    assert not stale, REMEDY
