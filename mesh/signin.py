"""Signs the person at this terminal in: by a stored sign-in, by the set-up code of a new mesh, or by asking
them.
"""

import getpass
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from mesh.credentials import Credentials, Wallet
from mesh.errors import CallFailed, SignInNeeded

OWNER = "owner@mesh.local"  # no mail is ever sent to it; the person can change it
_EARLY_US = 60_000_000  # an access token is renewed a minute before it expires
_OVER = frozenset({"REFRESH_TOKEN_INVALID", "REFRESH_TOKEN_REPLAYED", "TOKEN_REVOKED"})

SetupCode = Callable[[], Awaitable[str]]
Ask = Callable[[], Awaitable[tuple[str, str]]]


class Accounts(Protocol):
    """The calls of IdentityService that signing in needs. Each raises CallFailed."""

    async def register(
        self, *, request_id: str, email: str, name: str, password: str, device_id: str, setup_code: str
    ) -> Credentials:
        """Make the first account."""

    async def login(self, *, email: str, password: str, device_id: str, secret: str) -> Credentials:
        """Sign in with a password."""

    async def refresh(self, old: Credentials) -> Credentials:
        """Exchange a refresh token."""


class SignIn:
    """The sign-in of this terminal. `setup_code` answers the code of a mesh without an account, else an
    empty text; `ask` answers an address and a password, and is None where nobody can be asked.
    """

    def __init__(
        self, wallet: Wallet, accounts: Accounts, clock: Clock, setup_code: SetupCode, ask: Ask | None
    ) -> None:
        self._wallet, self._accounts, self._clock = wallet, accounts, clock
        self._setup_code, self._ask = setup_code, ask

    async def bearer(self) -> str:
        """Answer an access token that is good for a minute at least. Raises CallFailed, SignInNeeded."""
        stored = self._wallet.load()
        if stored is None or not self._good(stored):
            async with self._wallet.locked():
                stored = await self._renewed(self._wallet.load())
        return stored.access_token

    def expire(self) -> None:
        """Forget the access token: the mesh refused it."""
        if (stored := self._wallet.load()) is not None:
            self._wallet.store(replace(stored, access_expires_us=0))

    def _good(self, credentials: Credentials) -> bool:
        return credentials.access_expires_us - _EARLY_US > self._clock.now_us()

    async def _renewed(self, stored: Credentials | None) -> Credentials:
        """Answer good credentials, stored; another terminal may have renewed them while we waited for the
        lock.
        """
        if stored is not None and self._good(stored):
            return stored
        fresh = await self._fresh(stored)
        self._wallet.store(fresh)
        return fresh

    async def _fresh(self, stored: Credentials | None) -> Credentials:
        if stored is None:
            return await self._first()
        if not stored.refresh_token:
            return await self._register(stored)
        try:
            return await self._accounts.refresh(stored)
        except CallFailed as failure:
            if failure.reason not in _OVER:
                raise
            return await self._again(stored)

    async def _first(self) -> Credentials:
        if not await self._setup_code():
            return await self._again(None)
        begun = Credentials(
            device_id=ids.uuid(),
            email=OWNER,
            access_token="",
            access_expires_us=0,
            refresh_token="",
            password=ids.token(18),
        )
        self._wallet.store(begun)  # before the call: an answer that is lost is asked for again
        return await self._register(begun)

    async def _register(self, begun: Credentials) -> Credentials:
        code = await self._setup_code()
        if not code:  # the account was made, the answer was lost
            return await self._again(begun)
        return await self._accounts.register(
            request_id=begun.device_id,
            email=begun.email,
            name=getpass.getuser(),
            password=begun.password,
            device_id=begun.device_id,
            setup_code=code,
        )

    async def _again(self, stored: Credentials | None) -> Credentials:
        device = stored.device_id if stored else ids.uuid()
        secret = stored.device_secret if stored else ""
        if stored is not None and stored.password:
            kept = await self._accounts.login(
                email=stored.email, password=stored.password, device_id=device, secret=secret
            )
            return replace(kept, password=stored.password)
        if self._ask is None:
            raise SignInNeeded(
                "This terminal is not signed in.",
                "Run `mesh chat` once in a terminal: it asks for your password.",
            )
        email, password = await self._ask()
        return await self._accounts.login(email=email, password=password, device_id=device, secret=secret)
