"""TLS between rooms, both sides known: a room shows its certificate and asks for the other's.

One folder has what a room needs: ``ca.pem`` (the mesh's authority), ``<name>.pem`` and ``<name>.key`` (0600). The name
in a certificate is the room's; whoever dials a room expects that name, whatever address it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from chassis.keys import KeyRefused


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificates:
    """A room's certificate and key, and the authority whose word counts, all PEM."""

    authority: bytes
    chain: bytes
    key: bytes

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """The files of one room. Raises KeyRefused when one is missing, or others can read the key."""
        key = folder / f"{name}.key"
        try:
            if key.stat().st_mode & 0o077:
                raise KeyRefused(f"{key} can be read by others: chmod 600")
            parts = [path.read_bytes() for path in (folder / "ca.pem", folder / f"{name}.pem", key)]
        except OSError as error:
            raise KeyRefused(f"{error.filename} cannot be read: {error.strerror}") from error
        authority, chain, private = parts
        return cls(authority=authority, chain=chain, key=private)

    def for_server(self) -> grpc.ServerCredentials:
        """Serve nobody without a certificate of the authority."""
        return grpc.ssl_server_credentials(
            [(self.key, self.chain)], root_certificates=self.authority, require_client_auth=True
        )

    def for_channel(self) -> grpc.ChannelCredentials:
        """Show ours, believe the authority alone."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.chain)


def read(folder: Path | None, name: str) -> Certificates | None:
    """The room's certificates, or None where no folder is set. Raises KeyRefused."""
    return None if folder is None else Certificates.read(folder, name)
