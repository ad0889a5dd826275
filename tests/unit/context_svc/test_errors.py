"""The room's refusals against the contract's catalogue of reasons."""

from __future__ import annotations

import inspect

import pytest

from assistant.error.v1.error_pb2 import ErrorReason
from chassis.errors import ServiceError
from context_svc import errors

CATALOGUE = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name}
OURS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, ServiceError) and each.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", OURS)
def test_each_reason_is_in_the_contract(error: type[ServiceError]) -> None:
    assert error.reason in CATALOGUE
    assert error.message.endswith(".")
