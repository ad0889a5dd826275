"""`mesh secret`: keys of providers and the like, encrypted on this machine and read by the rooms at their start.

A secret has the name of the setting it fills, for example LLM_OPENAI_KEY; a setting of the environment wins.
"""

import fcntl
import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from chassis import strongbox
from chassis.keys import KeyRefused
from chassis.whole import write_whole
from mesh.errors import PlaceUnsafe, SecretUnfit
from mesh.places import Places

_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_LONGEST = 64 * 1024


def put(places: Places, name: str, console: Console, *, ask: Callable[[str], str] | None = None) -> int:
    """Ask for a value, without showing it, and keep it. Raises SecretUnfit and PlaceUnsafe."""
    if not _NAME.fullmatch(name):
        raise SecretUnfit(
            f"{name} is no name of a setting.", "Use one of docs/settings.md, such as LLM_OPENAI_KEY."
        )
    value = (ask or _asked)(f"{name}: ").strip()
    if not value or len(value) > _LONGEST:
        raise SecretUnfit(
            "There is no usable value.", "Type or pipe it in; `mesh secret remove` takes it away."
        )
    with _opened(places) as values:
        values[name] = value
    console.print(f"{name} is kept. The rooms read it at their next start.", highlight=False)
    return 0


def names(places: Places, console: Console) -> int:
    """Print the names, never a value. Raises PlaceUnsafe."""
    try:
        values = strongbox.read(places.data / strongbox.FILE, places.keys / strongbox.KEY)
    except KeyRefused as refusal:
        raise _unsafe(refusal) from refusal
    for name in sorted(values):
        console.print(name, markup=False, highlight=False)
    return 0


def remove(places: Places, name: str, console: Console) -> int:
    """Take one away. Raises SecretUnfit and PlaceUnsafe."""
    with _opened(places) as values:
        if values.pop(name, None) is None:
            raise SecretUnfit(f"There is no secret {name}.", "`mesh secret list` shows them.")
    console.print(f"{name} is gone.", highlight=False)
    return 0


@contextmanager
def _opened(places: Places) -> Iterator[dict[str, str]]:
    """The secrets, to be changed by one command at a time; written whole when the block ends well."""
    places.make()
    file, key = places.data / strongbox.FILE, places.keys / strongbox.KEY
    handle = os.open(places.keys / f"{strongbox.KEY}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        made = strongbox.load_or_create_key(key)
        values = strongbox.read(file, key)
        yield values
        write_whole(file, strongbox.seal(values, made))
    except KeyRefused as refusal:
        raise _unsafe(refusal) from refusal
    finally:
        os.close(handle)


def _unsafe(refusal: KeyRefused) -> PlaceUnsafe:
    return PlaceUnsafe(
        f"{refusal}.", "Put that right, or remove keys/secrets.key and secrets.enc and set the secrets again."
    )


def _asked(prompt: str) -> str:
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
