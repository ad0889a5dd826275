"""Words: what counts as one, what is found, and what a passage shows of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from context_svc.words import SNIPPET, Wanted, digests, passage, stands, wanted, words

pytestmark = pytest.mark.requirement("CHAT-9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße, STRASSE!", ["strasse", "strasse"]),
        ("Café au lait — 3.5 €", ["cafe", "au", "lait", "3", "5"]),
        ("don't_stop", ["don", "t", "stop"]),
        ("\uff21\uff22\uff23", ["abc"]),  # full width
        ("हिन्दी में", ["हिनदी", "में"]),
        ("東京へ", ["東", "東京", "京", "京へ", "へ"]),
        ("tokyo東京", ["tokyo", "東", "東京", "京"]),
        ("", []),
        ("… !!", []),
    ],
)
def test_text_is_cut_into_words(text: str, expected: list[str]) -> None:
    assert [each.text for each in words(text)] == expected


def test_a_query_names_words_and_what_must_stand_exactly_so() -> None:
    asked = wanted('Tea "Green Leaf" tea \u201cat 5\u201d "..."')
    assert asked.words == ("tea", "green", "leaf", "at", "5")
    assert asked.exactly == ("Green Leaf", "at 5")
    assert wanted("東京").words == ("東京",)
    assert wanted("京").words == ("京",)
    assert wanted('open "quote here').exactly == ("quote here",)


@pytest.mark.parametrize(
    ("text", "found"),
    [("a Green Leaf.", True), ("green leaf", False), ("Green Leafs", False), ("Green  Leaf", False)],
)
def test_what_is_in_quotes_must_stand_there_as_whole_words(text: str, found: bool) -> None:
    assert stands(text, wanted('"Green Leaf"')) is found


def test_digests_say_nothing_without_the_key_and_are_equal_for_equal_words() -> None:
    one, two = digests(["tea", "tea", "cup"], b"k"), digests(["tea"], b"other")
    assert one[0] == one[1] != one[2]
    assert two[0] != one[0]
    assert all(each.isalnum() and each.isascii() and len(each) == 16 for each in one)


def test_a_passage_shows_where_most_of_the_words_stand_together() -> None:
    text = "tea " + "filler " * 200 + "a cup of strong tea for Zoë"
    shown = passage(text, wanted("cup zoe tea"))
    assert [shown.text[start:end] for start, end in shown.stretches] == ["cup", "tea", "Zoë"]
    assert len(shown.text) <= SNIPPET


@given(st.text(max_size=900), st.text(min_size=1, max_size=8))
def test_whatever_is_said_a_passage_is_short_and_its_stretches_are_words_of_it(text: str, query: str) -> None:
    asked = wanted(query)
    shown = passage(text, asked)
    assert len(shown.text) <= SNIPPET
    assert shown.text in text
    last = 0
    for start, end in shown.stretches:
        assert last <= start < end <= len(shown.text)
        last = end
    every = {each.text for each in words(text)}
    if every & set(asked.words):
        assert shown.stretches or len(text) > SNIPPET


@given(st.text(max_size=60))
def test_a_text_is_found_by_each_of_its_words(text: str) -> None:
    every = {each.text for each in words(text)}
    assert set(wanted(text.replace('"', " ")).words) <= every
    assert stands(text, Wanted(words=()))
