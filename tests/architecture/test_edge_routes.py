"""The edge and the contract say the same: which calls are public, whose they are, how long they may take."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from assistant.error.v1 import error_pb2
from chassis.access import Audience
from context_svc import access as context_access
from llm_svc import access as llm_access
from media_svc import access as media_access

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = (REPOSITORY / "envoy" / "envoy.yaml").read_text("utf-8")
README = (REPOSITORY / "envoy" / "README.md").read_text("utf-8")
FILES = FileDescriptorSet.FromString((REPOSITORY / "generated" / "descriptors.binpb").read_bytes()).file

INTERNAL = {
    "IdentityService": {"WatchRevocations"},
    "TurnService": {"RunTurn", "ListActions", "CheckModels"},
    "GenerationService": {"Generate", "BatchGenerate", "CountTokens"},
    "MediaService": {
        "ClaimMedia",
        "ReleaseMedia",
        "EraseOwner",
        "ExportOwner",
        "ImportMedia",
        "WriteBackup",
        "ReadBackup",
    },
}
ROOMS = {"GenerationService": "llm", "MediaService": "media", "KnowledgeService": "media"}
LONG = {"AnalyzeImage", "Transcribe", "FinishTranscription"}
OPEN = {
    "Register": "/v1/auth:register",
    "Login": "/v1/auth:login",
    "RefreshToken": "/v1/auth:refresh",
    "Logout": "/v1/auth:logout",
    "GetServerInfo": "/v1/server",
    "GetJwks": "/v1/jwks",
}
_ROUTE = re.compile(
    r"^ +- \{match: \{path: (/assistant\.[\w.]+/\w+)\}, route: ([&*])(\w+)(.*)\}$", re.MULTILINE
)
_STATUS = re.compile(
    r'key: grpc-status, value: "(\d+)"\}\}\n.*key: grpc-message, value: "([^"]+)"\}\}\n'
    r".*key: grpc-status-details-bin, value: (\S+)\}\}(?s:(.*?))code: (\d+)\n"
    r" +message: \"([^\"]+)\"(?s:(.*?))reason: (\w+)\n +domain: (\S+)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Public:
    """What the contract says of one public call."""

    path: str
    room: str
    streams: bool


def _public() -> Iterator[Public]:
    for file in FILES:
        for service in file.service:
            if service.name in ("OperatorService", "TurnService"):
                continue
            for method in service.method:
                if method.name not in INTERNAL.get(service.name, set()):
                    yield Public(
                        path=f"/{file.package}.{service.name}/{method.name}",
                        room=ROOMS.get(service.name, "context"),
                        streams=method.client_streaming or method.server_streaming,
                    )


def _routes() -> dict[str, tuple[str, str]]:
    """Each routed path with its action's name and what that is."""
    found = _ROUTE.findall(CONFIG)
    actions = {name: text for _, kind, name, text in found if kind == "&"}
    return {path: (name, actions[name]) for path, _, name, _ in found}


PUBLIC = {public.path: public for public in _public()}


@pytest.mark.requirement("EDGE-1")
def test_every_public_call_has_a_route_and_nothing_else_has() -> None:
    # The internal listener asks context_svc for its keys by the same name; that line is no route of the port.
    port = CONFIG.partition("- name: edge\n    address:")[2]
    assert len(_ROUTE.findall(port)) == len(set(PUBLIC))
    assert set(_routes()) == set(PUBLIC)
    named = set(re.findall(r"/assistant\.[\w.]+/\w+", CONFIG))
    assert named == set(PUBLIC)


@pytest.mark.requirement("EDGE-1")
@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_a_call_goes_to_its_room_and_may_take_as_long_as_its_kind(path: str) -> None:
    name, action = _routes()[path]
    method = path.rpartition("/")[2]
    assert f"cluster: {PUBLIC[path].room}," in action
    if PUBLIC[path].streams:
        assert "timeout: 0s, idle_timeout: 0s" in action
    elif method in LONG:
        assert "timeout: 65s" in action
    else:
        assert "timeout: 30s" in action
    # What Envoy asks again must change nothing, or have reached nobody.
    again = "unavailable" in action or "*again" in action
    assert again == name.endswith("_read")
    assert ("unsent" in action) == name.endswith("_call")
    assert not name.endswith("_read") or method.startswith(("Get", "List", "Search"))


@pytest.mark.requirement("EDGE-1")
def test_the_gate_is_open_for_the_open_calls_alone() -> None:
    rules = CONFIG.partition("              rules:\n")[2].partition("# The rest is")[0]
    open_paths = re.findall(r"- match: \{path: (\S+)\}$", rules, re.MULTILINE)
    identity = "/assistant.identity.v1.IdentityService/"
    expected = {identity + name for name in OPEN} | set(OPEN.values()) | {"/grpc.health.v1.Health/Check"}
    assert set(open_paths) == expected
    closed = re.findall(r"prefix: (\S+)\}, requires: ", rules)
    assert closed == ["/v1/", "/assistant.", "/grpc.", "/mcp"]


@pytest.mark.requirement("EDGE-1")
def test_the_rooms_let_in_whom_the_edge_lets_through() -> None:
    policies = {**context_access.PUBLIC, **llm_access.POLICIES, **media_access.POLICIES}
    people = {path for path, row in policies.items() if row.audience in (Audience.OPEN, Audience.USER)}
    anyone = {path for path, row in policies.items() if row.audience is Audience.OPEN}
    assert people == set(PUBLIC)
    assert {path.rpartition("/")[2] for path in anyone} == set(OPEN)


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_a_room_gives_up_no_later_than_the_edge(path: str) -> None:
    policies = {**context_access.PUBLIC, **llm_access.POLICIES, **media_access.POLICIES}
    deadline, (_, action) = policies[path].deadline, _routes()[path]
    seconds = int(action.partition("timeout: ")[2].partition("s")[0])
    assert seconds == 0 if deadline is None else seconds >= deadline.total_seconds()


def test_the_edge_says_each_failure_in_the_same_words_on_every_door() -> None:
    found = _STATUS.findall(CONFIG)
    assert len(found) == 12
    reasons = set(error_pb2.ErrorReason.keys())
    for code, message, packed, _, json_code, json_message, _, reason, domain in found:
        status = Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (str(status.code), status.message) == (code, message) == (json_code, json_message)
        assert (info.reason, info.domain) == (reason, domain) == (reason, "assistant.mesh")
        assert f"ERROR_REASON_{reason}" in reasons


@pytest.mark.requirement("EDGE-1")
def test_mcp_has_one_route_whose_answers_may_last_and_whose_bodies_may_not_grow() -> None:
    port = CONFIG.partition("- name: edge\n    address:")[2]
    assert port.count("cluster: mcp,") == 1
    route = port.partition("- match: {path: /mcp}")[2].partition("- match:")[0]
    assert "timeout: 0s, idle_timeout: 0s" in route
    assert "envoy.filters.http.buffer: *json_body" in route
    assert "grpc_json_transcoder: &off" in route


def test_each_place_of_the_configuration_is_explained() -> None:
    places = set(re.findall(r"\$\{([A-Z_]+)\}", CONFIG))
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert explained == places


def test_the_transcoder_knows_every_public_service_and_no_other() -> None:
    services = CONFIG.rpartition("              services:\n")[2].partition("# auto_mapping")[0]
    named = set(re.findall(r"- (assistant\.\S+)", services))
    assert named == {path.split("/")[1] for path in PUBLIC}


def test_details_of_failures_are_in_the_descriptor_set() -> None:
    """Without their types the JSON door answers a failure with an empty body."""
    assert "google/rpc/error_details.proto" in {file.name for file in FILES}
