"""When a room that died is started again: a decision over times, never a wait."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How eagerly a room is started again. Times in seconds."""

    first: float = 0.25
    cap: float = 15.0
    steady: float = 60.0  # up this long: the next crash counts as a first one
    loop: int = 5  # this many crashes in a row, none steady: a crash loop


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """Start again after `delay` seconds; `crashes` in a row so far; `looping` says it will hardly help."""

    delay: float
    crashes: int
    looping: bool


@dataclass(kw_only=True, slots=True)
class Restarts:
    """The crashes of one room. `pace` doubles the delay from one crash to the next, up to its cap."""

    pace: Pace = field(default_factory=Pace)
    _crashes: int = 0

    def crashed(self, *, uptime: float) -> Restart:
        """Record a crash after `uptime` seconds and say when to start again."""
        self._crashes = 1 if uptime >= self.pace.steady else self._crashes + 1
        return Restart(
            delay=min(self.pace.cap, self.pace.first * 2 ** (self._crashes - 1)),
            crashes=self._crashes,
            looping=self._crashes >= self.pace.loop,
        )
