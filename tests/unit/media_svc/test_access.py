from __future__ import annotations

import pytest

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
    for name in internal:
        assert POLICIES[f"/assistant.media.v1.MediaService/{name}"].callers == {"context"}


@pytest.mark.requirement("SAFE-1")
def test_a_room_acts_for_a_person_with_a_grant_only() -> None:
    needed = {
        name.rpartition("/")[2]: dict(policy.grants) for name, policy in POLICIES.items() if policy.callers
    }
    assert {name for name, grants in needed.items() if not grants} == {"WriteBackup", "ReadBackup"}
    assert {name for name, grants in needed.items() if "orchestrator" in grants} == {
        "UploadMedia",
        "GetMedia",
        "DownloadMedia",
        "AnalyzeImage",
        "Transcribe",
        "GetDocument",
        "SearchDocuments",
    }
    after_end = {name.rpartition("/")[2] for name, policy in POLICIES.items() if policy.after_end}
    assert after_end == {"ReleaseMedia", "EraseOwner"}
