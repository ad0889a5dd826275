from __future__ import annotations

from assistant.knowledge.v1 import knowledge_pb2
from assistant.media.v1 import media_pb2
from chassis.access import Audience
from media_svc.access import POLICIES


def test_every_method_of_both_services_has_its_policy_and_nothing_else_has() -> None:
    declared = {
        f"/{service.full_name}/{method.name}"
        for file in (media_pb2.DESCRIPTOR, knowledge_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert declared == POLICIES.keys()


def test_internal_methods_are_for_context_svc_alone() -> None:
    internal = {
        name.rpartition("/")[2] for name, policy in POLICIES.items() if policy.audience is Audience.ROOM
    }
    assert internal == {
        "ClaimMedia",
        "ReleaseMedia",
        "EraseOwner",
        "ExportOwner",
        "ImportMedia",
        "WriteBackup",
        "ReadBackup",
    }
    assert {policy.callers for policy in POLICIES.values() if policy.callers} == {frozenset({"context"})}
