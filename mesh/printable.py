"""Text from elsewhere, made safe to print: it cannot steer a terminal."""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Answer the text with every control character but tab and line end, and every override of the reading
    direction, replaced.
    """
    return _STEERING.sub("\ufffd", text)
