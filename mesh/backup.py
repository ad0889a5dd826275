"""`mesh backup` and `mesh restore`: the whole mesh into one file, and back, through the operator's own socket."""

import asyncio
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from chassis import ids
from mesh.credentials import Wallet
from mesh.errors import CallFailed, NotRunning
from mesh.manifest import size
from mesh.operator import operator
from mesh.places import Places
from mesh.printable import printable

_AGAIN = 60.0  # seconds until the restored mesh must serve
_EVERY = 0.5
_EDGE = 11.0  # seconds until Envoy, which keeps the key set for ten, has asked for the new keys


async def backup(places: Places, folder: Path | None, console: Console) -> int:
    """Make a backup, in `folder` when one is given, and print where it lies. Raises MeshError."""
    async with operator(places) as asked:
        made = await asked.create_backup(ids.uuid(), str(folder or ""))
    console.print(f"{printable(made.location)}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{size(made.size)}, read back and whole. It is removed after {made.expires} UTC; a copy elsewhere stays.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


async def restore(places: Places, file: Path, console: Console) -> int:
    """Put a backup in the place of the present state, and wait until the mesh serves it. Raises MeshError."""
    async with operator(places) as asked:
        done = await asked.restore_backup(ids.uuid(), str(file))
        before = f"The state before is kept in {printable(done.previous)}."
    await _serves(places, done.log_epoch)
    await asyncio.sleep(_EDGE)
    _forget_sign_in(Wallet(places.client / "credentials.json"))
    console.print("Restored. Everybody has to sign in again.", highlight=False)
    console.print(before, markup=False, highlight=False, soft_wrap=True)
    if done.reapplied:
        console.print(f"Deleted since that backup, and deleted again: {done.reapplied}.", highlight=False)
    return 0


def _forget_sign_in(wallet: Wallet) -> None:
    """No token of before is good any more: the next command of this terminal signs in again."""
    if (stored := wallet.load()) is not None:
        wallet.store(replace(stored, access_expires_us=0))


async def _serves(places: Places, log_epoch: str) -> None:
    async with asyncio.timeout(_AGAIN):
        while True:
            try:
                async with operator(places) as asked:
                    if await asked.log_epoch() == log_epoch:
                        return
            except (CallFailed, NotRunning):
                pass
            await asyncio.sleep(_EVERY)
