from __future__ import annotations

from dataclasses import replace

import pytest

from media_svc.errors import OffsetMismatch, RangeInvalid
from media_svc.shelf import span
from media_svc.uploads import Announced, State, Upload, beginning

HALF = Upload(
    id="u",
    account="a",
    announced=Announced(
        request_id="r", size=100, sha256="0" * 64, file_name="", mime_type="", local_only=False
    ),
    state=State.RECEIVING,
    received=50,
    media=None,
    failure=None,
    expire_us=0,
)


@pytest.mark.parametrize(
    ("offset", "length", "known"),
    [
        pytest.param(50, 10, 0, id="the next chunk is wanted whole"),
        pytest.param(40, 20, 10, id="of a chunk that overlaps the rest is wanted"),
        pytest.param(40, 10, None, id="a chunk that came twice is not wanted"),
        pytest.param(0, 50, None, id="nor one that came in pieces"),
    ],
)
def test_what_of_a_chunk_is_wanted(offset: int, length: int, known: int | None) -> None:
    assert beginning(HALF, offset, length) == known


def test_a_gap_is_refused_with_the_place_to_go_on() -> None:
    with pytest.raises(OffsetMismatch) as refused:
        beginning(HALF, 51, 10)
    assert refused.value.metadata == {"offset": "50"}


@pytest.mark.parametrize("state", [State.CHECKING, State.FINISHED, State.FAILED])
def test_an_upload_that_has_its_bytes_wants_no_more(state: State) -> None:
    assert beginning(replace(HALF, state=state, received=100), 100, 10) is None


@pytest.mark.requirement("MED-2")
@pytest.mark.parametrize(
    ("offset", "length", "count"), [(0, 0, 10), (3, 0, 7), (3, 4, 4), (3, 7, 7), (3, 8, 7), (9, 1, 1)]
)
def test_a_range_ends_with_the_file(offset: int, length: int, count: int) -> None:
    assert span(10, offset, length) == count


@pytest.mark.parametrize("offset", [10, 11, 2**62])
def test_a_range_behind_the_end_is_refused(offset: int) -> None:
    with pytest.raises(RangeInvalid):
        span(10, offset, 0)
