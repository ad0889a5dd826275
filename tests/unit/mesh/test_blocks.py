import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.blocks import settled


@pytest.mark.requirement("RUN-3")
@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("a line without an end", ""),
        ("a line\n", ""),
        ("a paragraph\n\n", "a paragraph\n\n"),
        ("one\n\ntwo", "one\n\n"),
        ("```python\nx = 1\n\ny = 2\n", ""),
        ("```python\nx = 1\n\ny = 2\n```\n", "```python\nx = 1\n\ny = 2\n```\n"),
        ("text\n\n~~~\n```\n\n", "text\n\n"),
        ("```\na\n```\nthen", "```\na\n```\n"),
    ],
)
def test_only_whole_blocks_are_settled(text: str, whole: str) -> None:
    assert text[: settled(text)] == whole


@given(st.text(alphabet="a`~ \n", max_size=60), st.text(alphabet="a`~ \n", max_size=20))
def test_what_is_settled_stays_settled_whatever_follows(text: str, more: str) -> None:
    cut = settled(text)

    assert settled(text + more) >= cut or text[cut:].strip() == "" or settled(text[:cut]) == cut
    assert settled(text[:cut]) == cut
