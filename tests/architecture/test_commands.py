"""The two commands: what CI runs is what a person runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.requirement("RUN-2")
def test_ci_runs_the_readmes_own_test_command() -> None:
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "exec make test" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.requirement("RUN-1", "RUN-2")
def test_both_commands_set_up_what_they_need() -> None:
    rules = dict(re.findall(r"^([a-z-]+): ([a-z-]+) ##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert rules["run"] == "setup"
    assert rules["test"] == "setup-dev"


@pytest.mark.requirement("RUN-2")
def test_every_package_is_pinned_by_hash_without_an_address() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        pinned = re.findall(r"^[a-z0-9._-]+(?:\[[a-z0-9,]+\])?==", text, re.MULTILINE)
        assert len(pinned) > 30
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "://" not in text
        assert not re.search(r"^--", text, re.MULTILINE), "no option of where to look"
