"""`mesh chat`: a conversation in the terminal, through the same public door as every other client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from rich.console import Console

from chassis.clock import SystemClock
from chassis.tasks import Tasks
from mesh import answer, record
from mesh.credentials import Wallet
from mesh.dialogue import Dialogue, model_table
from mesh.known.peers import Known
from mesh.notices import announce
from mesh.peers import Conversation, Identity, door
from mesh.places import Places
from mesh.signin import Ask, SignIn
from mesh.status import setup_code
from mesh.talk import Talk, Wish
from mesh.terminal import Documents, Plain, Terminal, View

_WAITS = 3  # the exit code of `--once` when the turn waits for a person


async def chat(places: Places, wish: Wish, console: Console) -> int:
    """Talk until the person leaves, or ask once; answer the exit code. Raises MeshError."""
    running = record.running(places)
    clock = SystemClock()
    typed = (
        PromptSession[str](history=FileHistory(str(places.client / "history"))) if wish.once is None else None
    )
    async with Tasks() as tasks, door(f"{_host(running.bind)}:{running.port}") as channel:
        wallet = Wallet(places.client / "credentials.json")
        known = wallet.load() is not None
        sign_in = SignIn(wallet, Identity(channel), clock, lambda: setup_code(places), _asking(typed))
        await sign_in.bearer()
        if not known and typed is not None:
            console.print(f"Signed in as {_email(wallet)}. /help lists the commands.", highlight=False)
        talk = Talk(Conversation(channel, sign_in.bearer), _view(wish, console), wish, clock, tasks)
        if typed is None:
            return await _once(talk, wish.once or "")
        conversation, kept = Conversation(channel, sign_in.bearer), Known(channel, sign_in.bearer)
        tasks.spawn("announce what comes of itself", announce(conversation, console, clock))
        return await Dialogue(talk, conversation, kept, typed, console).run()


async def models(places: Places, console: Console) -> int:
    """Print the catalogue of the running mesh. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        console.print(model_table(await Conversation(channel, sign_in.bearer).models()))
    return 0


async def token(places: Places, console: Console) -> int:
    """Print an access token of this terminal's sign-in, good for minutes. Raises MeshError."""
    async with signed_in(places) as (_, sign_in):
        console.print(await sign_in.bearer(), markup=False, highlight=False, soft_wrap=True)
    return 0


@asynccontextmanager
async def signed_in(places: Places) -> AsyncIterator[tuple[grpc.aio.Channel, SignIn]]:
    """Hold the public door and the sign-in of this terminal, where nobody can be asked."""
    running = record.running(places)
    async with door(f"{_host(running.bind)}:{running.port}") as channel:
        wallet = Wallet(places.client / "credentials.json")
        yield channel, SignIn(wallet, Identity(channel), SystemClock(), lambda: setup_code(places), None)


async def _once(talk: Talk, text: str) -> int:
    match await talk.ask(text, None):
        case answer.Finished():
            return 0
        case answer.ApprovalAsked() | answer.Asked():
            return _WAITS
        case answer.Cancelled():
            return 130
        case _:
            return 1


def _view(wish: Wish, console: Console) -> View:
    if wish.as_json:
        return Documents(console)
    if console.is_terminal:
        return Terminal(console)
    return Plain(console, Console(stderr=True))


def _asking(typed: PromptSession[str] | None) -> Ask | None:
    if typed is None:
        return None

    async def ask() -> tuple[str, str]:
        asking: PromptSession[str] = PromptSession()
        email = await asking.prompt_async("E-mail address: ")
        return email.strip(), await asking.prompt_async("Password: ", is_password=True)

    return ask


def _email(wallet: Wallet) -> str:
    stored = wallet.load()
    return stored.email if stored else ""


def _host(bind: str) -> str:
    """Answer the address to dial for one to bind."""
    if bind in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind
