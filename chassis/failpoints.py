"""Places where a test can make a process die, fail or stall. Nothing happens unless the process was started under test.

``FP=name:nth:kill|raise|sleep`` arms the nth time that `name` is reached, and counts only beside ``FP_ENABLED=1``. A
supervisor that hands a room only variables with the room's name in front is served too: ``CONTEXT_FP`` and
``CONTEXT_FP_ENABLED``. ::

    failpoints.reach("after_commit_before_ack")
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Literal, TypeAlias, assert_never

Action: TypeAlias = Literal["kill", "raise", "sleep"]
SLEEP = 15.0  # seconds: longer than any lease
_ACTIONS: Mapping[str, Action] = {"kill": "kill", "raise": "raise", "sleep": "sleep"}


class FailpointReached(Exception):
    """A test asked for a fault here."""


class Failpoint:
    """One armed place."""

    def __init__(self, name: str, nth: int, action: Action) -> None:
        self.name = name
        self._left = nth
        self._action = action

    def reach(self, name: str) -> None:
        """Act when this is the place, for the nth time. Raises FailpointReached."""
        if name != self.name:
            return
        self._left -= 1
        if self._left != 0:
            return
        match self._action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise FailpointReached(name)
            case "sleep":
                time.sleep(SLEEP)
            case _:
                assert_never(self._action)


def parse(text: str) -> Failpoint:
    """The failpoint that ``name:nth:action`` describes. Raises ValueError."""
    name, nth, action = text.split(":")
    if not name or int(nth) < 1 or action not in _ACTIONS:
        raise ValueError(f"a failpoint is name:nth:kill|raise|sleep, not {text}")
    return Failpoint(name, int(nth), _ACTIONS[action])


_armed: Failpoint | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Take the failpoint of an environment, if it says that this process is under test. Raises ValueError."""
    global _armed
    enabled = any(_own(name, "FP_ENABLED") and value == "1" for name, value in environment.items())
    asked = [value for name, value in environment.items() if _own(name, "FP") and value]
    _armed = parse(asked[0]) if enabled and asked else None


def reach(name: str) -> None:
    """Say that this place is reached. Raises FailpointReached when a test asked for it."""
    if _armed is not None:
        _armed.reach(name)


def _own(variable: str, name: str) -> bool:
    return variable == name or variable.endswith(f"_{name}")
