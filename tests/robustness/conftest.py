"""How long the loops run: a short slice with every test run, all of it by `make robustness`."""

from __future__ import annotations

import pytest

from tests.robustness.table import table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loops", choices=["short", "long"], default="short", help="how long robustness loops run"
    )


@pytest.fixture
def long_loops(request: pytest.FixtureRequest) -> bool:
    """Whether the loops run at full length."""
    return bool(request.config.getoption("--loops") == "long")


@pytest.fixture
def only_long(long_loops: bool) -> None:
    """Leaves a test to `make robustness`: what it waits for takes too long for every run of the tests."""
    if not long_loops:
        pytest.skip("runs with `make robustness`")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts, which are the result of the loops."""
    if rows := table():
        terminalreporter.section("robustness")
        for row in rows:
            terminalreporter.write_line(row)
