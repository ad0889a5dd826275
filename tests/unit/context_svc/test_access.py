"""The policy table against the contract's descriptors: no RPC without a row, no row without an RPC."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from chassis.access import Audience
from context_svc import access

DESCRIPTORS = Path(__file__).parents[3] / "generated" / "descriptors.binpb"
ROWS = {**access.PUBLIC, **access.OPERATOR}


def contract() -> dict[str, bool]:
    """Each method of this room's services: does it stream?"""
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    services = {*access.SERVICES, *access.OPERATOR_SERVICES}
    return {
        f"/{file.package}.{service.name}/{method.name}": method.client_streaming or method.server_streaming
        for file in files.file
        for service in file.service
        if f"{file.package}.{service.name}" in services
        for method in service.method
    }


@pytest.mark.requirement("ID-9")
def test_every_rpc_of_the_contract_has_a_row() -> None:
    assert ROWS.keys() == contract().keys()


def test_streams_have_no_deadline_and_everything_else_has_one() -> None:
    assert {method: row.deadline is None for method, row in ROWS.items()} == contract()


def test_only_these_calls_need_no_token() -> None:
    open_calls = {method.rpartition("/")[2] for method, row in ROWS.items() if row.audience is Audience.OPEN}
    assert open_calls == {"Register", "Login", "RefreshToken", "Logout", "GetServerInfo", "GetJwks"}


def test_only_the_feed_is_for_rooms_and_only_the_operator_is_local() -> None:
    assert [m for m, row in ROWS.items() if row.audience is Audience.ROOM] == [
        "/assistant.identity.v1.IdentityService/WatchRevocations"
    ]
    assert {m for m, row in ROWS.items() if row.audience is Audience.LOCAL} == access.OPERATOR.keys()
