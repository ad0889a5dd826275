"""Where streamed Markdown can be cut: what stands before the cut looks the same whatever follows."""

_FENCES = ("```", "~~~")


def settled(text: str) -> int:
    """Answer how many characters of `text` are whole blocks: up to the last empty line outside a code
    fence.
    """
    cut = at = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        at += len(line)
        words = line.strip()
        if fence:
            fence = "" if words == fence else fence
            cut = cut if fence else at
        elif words.startswith(_FENCES):
            fence = words[:3]
        elif not words and line.endswith("\n"):
            cut = at
    return cut
