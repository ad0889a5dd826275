"""Accounts, devices and actions as the terminal shows them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class UserLine:
    """An account, as the owner of the machine sees it."""

    id: str
    email: str
    name: str
    state: str
    last_use: str
    devices: int
    sessions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionLine:
    """Something that the assistant can do."""

    name: str
    state: str
    effect: str
    agent: str
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceLine:
    """A device of the person at this terminal."""

    id: str
    name: str
    last_use: str
    network: str
    signed_in: bool
    current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Me:
    """The person at this terminal."""

    id: str
    email: str
    name: str
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Invite:
    """A code for one registration, and when it ends."""

    code: str
    expires: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """What an archive is when it is whole."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """How far an import is. `failure` is why it failed, as a sentence."""

    id: str
    received: int
    finished: bool
    failed: bool
    progress: float
    added: dict[str, int]
    failure: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """A backup, and when it is removed."""

    location: str
    size: int
    expires: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore did; `previous` is where the state before it lies."""

    log_epoch: str
    previous: str
    reapplied: int
