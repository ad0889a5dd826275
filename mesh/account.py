"""`mesh account`: what the person signed in at this terminal sees and changes of their own account."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from prompt_toolkit import PromptSession
from rich.console import Console
from rich.table import Table

from chassis import ids
from chassis.clock import Clock, SystemClock
from mesh.chat import signed_in
from mesh.credentials import Wallet
from mesh.errors import ArchiveUnusable
from mesh.peers import Account
from mesh.people import DeviceLine, Whole
from mesh.places import Places
from mesh.printable import printable

_CHUNK = 256 * 1024
_LOOK = 0.5  # seconds between two looks at an import

AskPassword = Callable[[str], Awaitable[str]]
"""Asks for the password of the account with this address, which is about to be deleted."""

AskPasswords = Callable[[bool], Awaitable[tuple[str, str]]]
"""Asks for the password until now (unless it is known) and the new one."""


async def show(places: Places, console: Console) -> int:
    """Print who is signed in. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        me = await Account(channel, sign_in.bearer).me()
    said = f"{printable(me.name)} <{printable(me.email)}>\naccount {me.id}\ndevice {me.device}"
    console.print(said, markup=False, highlight=False)
    return 0


async def devices(places: Places, console: Console) -> int:
    """Print the person's devices, the one used last first. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        console.print(_table(await Account(channel, sign_in.bearer).devices()))
    return 0


async def revoke(places: Places, device: str, console: Console) -> int:
    """Sign a device out from afar. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Account(channel, sign_in.bearer).revoke(device)
    console.print(f"{device} is signed out.", markup=False, highlight=False)
    return 0


async def password(places: Places, console: Console, ask: AskPasswords | None = None) -> int:
    """Set a new password; every other device is signed out. Raises MeshError."""
    wallet = Wallet(places.client / "credentials.json")
    async with signed_in(places) as (channel, sign_in):
        await sign_in.bearer()
        stored = wallet.load()
        kept = stored.password if stored else ""
        typed, fresh = await (ask or _ask)(not kept)
        ended = await Account(channel, sign_in.bearer).change_password(
            ids.uuid(), current=kept or typed, fresh=fresh
        )
        if (now := wallet.load()) is not None and kept:
            wallet.store(replace(now, password=fresh))
    console.print(f"The password is changed; {ended} other devices are signed out.", highlight=False)
    return 0


async def export(places: Places, target: Path, console: Console, *, without_files: bool = False) -> int:
    """Write everything of the account into one file, whole or not at all. Raises MeshError."""
    part = target.with_name(f"{target.name}.part")
    async with signed_in(places) as (channel, sign_in):
        with _fresh(part) as file:
            digest, whole = hashlib.sha256(), None
            async for piece in Account(channel, sign_in.bearer).export(
                ids.uuid(), without_files=without_files
            ):
                if isinstance(piece, Whole):
                    whole = piece
                else:
                    digest.update(piece)
                    file.write(piece)
    if whole is None or (part.stat().st_size, digest.hexdigest()) != (whole.size, whole.sha256):
        part.unlink()
        raise ArchiveUnusable("The export was cut off.", "Run the command again.")
    part.replace(target)
    console.print(f"{target}: {whole.size} bytes", markup=False, highlight=False)
    return 0


async def import_(places: Places, source: Path, console: Console, clock: Clock | None = None) -> int:
    """Add what an archive holds to the account. Run again, it goes on where it was. Raises MeshError."""
    clock = clock or SystemClock()
    whole = await asyncio.to_thread(_measured, source)
    async with signed_in(places) as (channel, sign_in):
        mine = Account(channel, sign_in.bearer)
        arriving = await mine.begin_import(str(UUID(hex=whole.sha256[:32], version=5)), whole)
        if arriving.failed:
            arriving = await mine.begin_import(ids.uuid(), whole)
        with source.open("rb") as file:
            while arriving.received < whole.size:
                file.seek(arriving.received)
                arriving = await mine.write_import(arriving.id, arriving.received, file.read(_CHUNK))
        while not (arriving.finished or arriving.failed):
            await clock.sleep(_LOOK)
            arriving = await mine.find_import(arriving.id)
    if arriving.failed:
        raise ArchiveUnusable(f"{source} was refused: {arriving.failure}", "Nothing of it was added.")
    added = ", ".join(f"{count} {kind}" for kind, count in sorted(arriving.added.items()))
    console.print(f"added: {added or 'nothing, it was all there'}", markup=False, highlight=False)
    return 0


async def delete(places: Places, console: Console, ask: AskPassword | None = None) -> int:
    """Delete the account of this terminal, after its password was typed. Raises MeshError."""
    wallet = Wallet(places.client / "credentials.json")
    async with signed_in(places) as (channel, sign_in):
        mine = Account(channel, sign_in.bearer)
        me = await mine.me()
        password = await (ask or _ask_to_delete)(me.email)
        deadline = await mine.delete(ids.uuid(), password)
    wallet.path.unlink(missing_ok=True)
    console.print(f"{printable(me.email)} is deleted; it is erased by {deadline} UTC.", markup=False)
    return 0


async def _ask_to_delete(email: str) -> str:
    """The password; the terminal's own does not do: a deletion is never one slip away."""
    asking: PromptSession[str] = PromptSession()
    question = f"Everything of {printable(email)} will be gone for ever. Password: "
    return await asking.prompt_async(question, is_password=True)


@contextmanager
def _fresh(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner can read; gone when it was not written to the end."""
    path.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ArchiveUnusable(
            f"{path} cannot be written: {error.strerror}.", "Choose another place."
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _measured(source: Path) -> Whole:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Whole(size=source.stat().st_size, sha256=digest)
    except OSError as error:
        raise ArchiveUnusable(f"{source} cannot be read: {error.strerror}.", "Name an archive.") from error


async def _ask(with_current: bool) -> tuple[str, str]:
    asking: PromptSession[str] = PromptSession()
    current = await asking.prompt_async("Password until now: ", is_password=True) if with_current else ""
    return current, await asking.prompt_async("New password: ", is_password=True)


def _table(lines: list[DeviceLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "", "last use (UTC)", "network", "id"):
        table.add_column(heading, no_wrap=heading == "id")
    for line in lines:
        state = "this one" if line.current else "signed in" if line.signed_in else "signed out"
        table.add_row(printable(line.name), state, line.last_use, line.network, line.id)
    return table
