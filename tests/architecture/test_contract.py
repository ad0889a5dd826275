"""The contract and the code say the same: reasons, policies, bindings, generated files."""

from __future__ import annotations

import filecmp
import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto

from assistant.error.v1 import error_pb2
from chassis.access import Audience, Policies
from chassis.errors import ServiceError

ROOT = Path(__file__).parents[2]
ROOM_OF = {
    "IdentityService": "context_svc",
    "SessionService": "context_svc",
    "ContextService": "context_svc",
    "ChatService": "context_svc",
    "AgentService": "context_svc",
    "ReminderService": "context_svc",
    "NotificationService": "context_svc",
    "OperatorService": "context_svc",
    "TurnService": "orchestrator_svc",
    "GenerationService": "llm_svc",
    "MediaService": "media_svc",
    "KnowledgeService": "media_svc",
}
INTERNAL = frozenset(
    {
        "WatchRevocations",
        "RunTurn",
        "ListActions",
        "CheckModels",
        "Generate",
        "BatchGenerate",
        "CountTokens",
        "ClaimMedia",
        "ReleaseMedia",
        "EraseOwner",
        "ExportOwner",
        "ImportMedia",
        "WriteBackup",
        "ReadBackup",
    }
)
WITHOUT_HTTP = frozenset({"Chat", "StreamTranscribe", "UploadMedia", "ImportAccount"})  # each has a twin


def rpcs() -> Iterator[tuple[str, str, MethodDescriptorProto]]:
    whole = FileDescriptorSet.FromString((ROOT / "generated/descriptors.binpb").read_bytes())
    for file in whole.file:
        for service in file.service:
            for method in service.method:
                yield service.name, f"/{file.package}.{service.name}/{method.name}", method


def policies(room: str) -> Policies:
    table: Policies = importlib.import_module(f"{room}.access").POLICIES
    return table


def test_every_rpc_has_a_row_in_its_rooms_policy_table_and_no_row_is_left_over() -> None:
    expected: dict[str, set[str]] = {room: set() for room in set(ROOM_OF.values())}
    for service, path, _ in rpcs():
        expected[ROOM_OF[service]].add(path)
    for room, paths in expected.items():
        assert set(policies(room)) == paths, room


@pytest.mark.requirement("SAFE-1")
def test_internal_rpcs_are_for_rooms_and_public_ones_never_only_for_rooms() -> None:
    for service, path, method in rpcs():
        audience = policies(ROOM_OF[service])[path].audience
        if service == "OperatorService":
            assert audience is Audience.LOCAL, path
        elif method.name in INTERNAL:
            assert audience is Audience.ROOM, path
        else:
            assert audience in (Audience.OPEN, Audience.USER), path


def test_every_public_rpc_has_an_http_binding_or_a_twin() -> None:
    for service, path, method in rpcs():
        bound = bool(method.options.Extensions[annotations_pb2.http].WhichOneof("pattern"))
        public = service != "OperatorService" and method.name not in INTERNAL | WITHOUT_HTTP
        assert bound is public, path


def declared_errors() -> set[type[ServiceError]]:
    for room in ("chassis", *sorted(set(ROOM_OF.values()))):
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if module.name.endswith(".errors"):
                importlib.import_module(module.name)
    found: set[type[ServiceError]] = set()
    waiting = [ServiceError]
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            if each.__module__.split(".")[0] != "tests":
                found.add(each)
    return found


@pytest.mark.requirement("SAFE-7")
def test_every_declared_failure_has_its_reason_in_the_contract() -> None:
    catalogue = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}  # noqa: SIM118
    missing = {
        f"{each.__module__}.{each.__name__}" for each in declared_errors() if each.reason not in catalogue
    }
    assert not missing


@pytest.mark.slow
def test_the_generated_files_are_those_of_the_contract(tmp_path: Path) -> None:
    target = tmp_path / "generated"
    subprocess.run(
        [ROOT / "protos/generate.sh", sys.executable],
        env={**os.environ, "GENERATED_DIR": str(target)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert not list(differences(filecmp.dircmp(ROOT / "generated", target, ignore=["__pycache__"])))


@pytest.mark.slow
def test_the_contract_is_clean_to_its_linter() -> None:
    buf = Path(sys.executable).parent / "buf"
    for command in (["lint"], ["format", "--diff", "--exit-code", "--path", "protos/assistant"]):
        run = subprocess.run([buf, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr


def differences(compared: filecmp.dircmp[str]) -> Iterator[str]:
    for kind in (compared.left_only, compared.right_only, compared.diff_files):
        yield from (f"{compared.left}/{each}" for each in kind if not each.endswith(".pyc"))
    for below in compared.subdirs.values():
        yield from differences(below)
