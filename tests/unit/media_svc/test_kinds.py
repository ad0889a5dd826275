from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_svc.kinds import Found, Kind, Limits, identify
from tests.unit.media_svc.samples import REFUSED, TAKEN


def what(data: bytes, hint: str = "") -> str | None:
    found = identify(io.BytesIO(data), len(data), hint)
    return found.mime_type if found else None


@pytest.mark.requirement("MED-1")
@pytest.mark.parametrize("name", TAKEN)
def test_a_type_we_take_is_known_by_its_content(name: str) -> None:
    data, mime_type = TAKEN[name]
    assert what(data) == mime_type
    assert what(data, "application/pdf" if mime_type != "application/pdf" else "image/png") == mime_type


@pytest.mark.requirement("MED-1")
@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_whatever_the_client_calls_it(name: str) -> None:
    for hint in ("", "image/png", "text/plain", "audio/mp4"):
        assert what(REFUSED[name], hint) is None


def test_the_hint_chooses_among_texts_that_look_alike() -> None:
    for hint in ("text/markdown", "text/csv", "text/plain"):
        assert what(b"a,b\n# c\n", hint) == hint
    assert what(b"a,b", "Text/CSV; charset=utf-8") == "text/csv"
    assert what(b"a,b", "text/html") == "text/plain"


def test_each_type_has_its_kind() -> None:
    kinds = {identify(io.BytesIO(data), len(data)) for data, _ in TAKEN.values()}
    assert {found.kind for found in kinds if found} == set(Kind)
    assert Found(kind=Kind.DOCUMENT, mime_type="text/html") in kinds


def test_a_control_character_far_inside_makes_it_no_text() -> None:
    assert what(b"a" * 3_000_000) == "text/plain"
    assert what(b"a" * 3_000_000 + b"\1") is None


def test_a_limit_belongs_to_a_kind() -> None:
    limits = Limits(image=1, audio=3, document=2)
    assert [limits.of(kind) for kind in Kind] == [1, 3, 2]
    assert limits.largest == 3


@given(st.sampled_from([data for data, _ in TAKEN.values()]), st.data())
def test_damage_is_answered_and_never_raises(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    value = draw.draw(st.binary(min_size=1, max_size=8))
    what(data[:place] + value + data[place + len(value) :])
    what(data[:place])


class Counting(io.BytesIO):
    """Knows how much was read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_directory_of_200_000_entries_is_not_read() -> None:
    entry = b"PK\1\2" + bytes(42)
    directory = entry * 200_000
    end = b"PK\5\6" + bytes(8) + len(directory).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"\0\0"
    data = b"PK\3\4" + directory + end
    file = Counting(data)
    assert identify(file, len(data)) is None
    assert file.count < 4 * 1024 * 1024 < len(directory)
