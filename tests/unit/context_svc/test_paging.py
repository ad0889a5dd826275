"""Page tokens: whatever was not issued for this query is refused, never misread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from context_svc.errors import PageTokenInvalid
from context_svc.paging import PAGE_BYTES, PageTokens, Query, fitting, page_size

TOKENS = PageTokens(b"k" * 32)
QUERY = Query(account="a", name="sessions", filters={"open_only": False})


@given(st.integers(min_value=0, max_value=1 << 62), st.text(max_size=64))
def test_a_token_reads_as_what_it_was_issued_for(moment: int, id: str) -> None:
    assert TOKENS.read(QUERY, TOKENS.issue(QUERY, (moment, id)), (int, str)) == [moment, id]


@given(st.text(max_size=200))
def test_no_other_text_is_a_token(text: str) -> None:
    if text == "":
        assert TOKENS.read(QUERY, text, (int, str)) is None
        return
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(QUERY, text, (int, str))


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_no_token_survives_a_changed_bit(position: int, bit: int) -> None:
    token = TOKENS.issue(QUERY, (1_800_000_000_000_000, "0190"))
    place = position % (len(token) - 1)  # the last letter may carry unused bits
    changed = token[:place] + chr(ord(token[place]) ^ (1 << bit)) + token[place + 1 :]
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(QUERY, changed, (int, str))


@pytest.mark.parametrize(
    "query",
    [
        Query(account="b", name="sessions", filters={"open_only": False}),
        Query(account="a", name="devices", filters={"open_only": False}),
        Query(account="a", name="sessions", filters={"open_only": True}),
        Query(account="a", name="sessions", filters={}),
    ],
)
def test_a_token_of_another_query_is_refused(query: Query) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(query, TOKENS.issue(QUERY, (1, "x")), (int, str))


def test_a_token_of_another_key_or_shape_is_refused() -> None:
    token = PageTokens(b"z" * 32).issue(QUERY, (1, "x"))
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(QUERY, token, (int, str))
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(QUERY, TOKENS.issue(QUERY, ("x", 1)), (int, str))


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (200, 200), (5_000, 200)])
def test_a_page_has_50_rows_by_default_and_200_at_most(asked: int, given: int) -> None:
    assert page_size(asked) == given


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], 0),
        ([5, 5], 2),
        ([5, 5, 5, 5], 3),
        ([PAGE_BYTES + 1, 1], 1),
        ([PAGE_BYTES, 1], 1),
        ([1, PAGE_BYTES], 1),
    ],
)
def test_a_page_is_bounded_by_rows_and_by_bytes_and_never_empty(sizes: list[int], expected: int) -> None:
    assert fitting(sizes, 3) == expected
