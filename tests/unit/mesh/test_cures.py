"""What a person is told to do about each failure."""

import re

import pytest

from assistant.error.v1 import error_pb2
from mesh.__main__ import parser
from mesh.cures import CURES
from mesh.dialogue import HELP


@pytest.mark.requirement("SAFE-7")
def test_there_is_something_to_do_about_every_reason_of_the_catalogue() -> None:
    reasons = {
        name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.DESCRIPTOR.values_by_name
    } - {"UNSPECIFIED"}

    assert set(CURES) == reasons
    for reason, cure in CURES.items():
        assert re.fullmatch(r"[A-Z`].*[.]", cure), reason


@pytest.mark.requirement("SAFE-7")
def test_the_commands_that_are_named_exist() -> None:
    words = {word for cure in CURES.values() for word in re.findall(r"`([^`]+)`", cure)}
    typed = {word for word in words if word.startswith("mesh ")}

    assert len(typed) > 8
    for command in typed:
        with pytest.raises(SystemExit) as left:
            parser().parse_args([*command.split()[1:], "--help"])
        assert left.value.code == 0, command
    for command in words - typed - {"mesh", "make run"}:
        assert re.search(rf"^{command}\b", HELP, re.MULTILINE), command
