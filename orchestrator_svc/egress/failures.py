"""Why something did not come from outside.

::

    EgressFailure
    ├── Refused      the guard does not go there
    │   └── NoAddress    it is no address of the web at all
    ├── Unreachable  nobody answered, or the connection broke
    ├── TooSlow      no whole answer in time
    ├── TooLarge     more bytes than may come
    └── Garbled      an answer that is no HTTP, or in an encoding nobody asked for
"""

from __future__ import annotations


class EgressFailure(Exception):
    """`str()` of it is a short phrase for a person; it never repeats the URL."""


class Refused(EgressFailure):
    """The guard does not go there. Trying again changes nothing."""


class NoAddress(Refused):
    """What was given is no address of the web."""


class Unreachable(EgressFailure):
    """Nobody answered, or the connection broke."""


class TooSlow(EgressFailure):
    """The whole answer did not come in time."""


class TooLarge(EgressFailure):
    """The answer has more bytes than it may have."""


class Garbled(EgressFailure):
    """The answer is no HTTP, or in an encoding that nobody asked for."""
