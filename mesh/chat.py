"""`mesh chat`: a conversation in the terminal, through the same public door as every other client."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from rich.console import Console
from rich.table import Table

from chassis import ids
from chassis.clock import Clock, SystemClock
from chassis.tasks import Tasks
from mesh import answer, record
from mesh.credentials import Wallet
from mesh.errors import CallFailed, MeshError
from mesh.peers import Conversation, Identity, door
from mesh.places import Places
from mesh.signin import Ask, SignIn
from mesh.status import setup_code
from mesh.terminal import Documents, Plain, Terminal, View
from mesh.turns import follow

HELP = """\
/model [NAME]   the models there are, or answer with this one from now on
/sessions [N]   your sessions, or go on with number N
/new            begin a new session
/help           this
/quit           leave (Ctrl-D does too); Ctrl-C stops an answer"""

_PROMPT = "» "
_WAITS = 3  # the exit code of `--once` when the turn waits for a person


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    once: str | None = None
    as_json: bool = False
    session: str | None = None
    model: str | None = None


class Talk:
    """One conversation at this terminal."""

    def __init__(
        self, conversation: Conversation, view: View, wish: Wish, clock: Clock, tasks: Tasks
    ) -> None:
        self._conversation, self._view, self._clock, self._tasks = conversation, view, clock, tasks
        self._documented = wish.as_json
        self.model = wish.model
        self.session = wish.session

    async def ask(self, text: str, approve: Callable[[], Awaitable[bool]] | None) -> answer.Body:
        """Send a message and show its turn; answer its last event, or what it waits for when nobody can be
        asked.

        Ctrl-C stops the turn, and keeps what was said. Raises CallFailed.
        """
        if self.session is None:
            self.session = await self._conversation.create_session(ids.uuid())
        question = answer.Question(id=ids.uuid(), session=self.session, text=text, model=self.model)
        turn = _Turn(self._conversation, self.session, self._tasks)
        try:
            with_events = follow(self._conversation, question, self._clock, documented=self._documented)
            async with turn.interruptible(), aclosing(with_events) as events:  # type: ignore[type-var]
                return await self._show(events, turn, approve)
        finally:
            self._view.end()

    async def _show(
        self,
        events: AsyncIterator[answer.Event],
        turn: "_Turn",
        approve: Callable[[], Awaitable[bool]] | None,
    ) -> answer.Body:
        async for event in events:
            turn.runs(event.turn)
            self._view.show(event)
            if isinstance(event.body, answer.ApprovalAsked | answer.Asked) and approve is None:
                return event.body
            if isinstance(event.body, answer.ApprovalAsked) and approve is not None:
                self._view.end()
                await turn.approve(event.body, allowed=await approve())
            if isinstance(event.body, answer.Last):
                return event.body
        raise AssertionError("a followed turn ends with its last event")


class _Turn:
    """The turn that is being shown, and how the person can act on it."""

    def __init__(self, conversation: Conversation, session: str, tasks: Tasks) -> None:
        self.id = ""
        self._conversation, self._session, self._tasks = conversation, session, tasks
        self._stopped = False

    def runs(self, turn: str) -> None:
        """Learn the turn's id; a Ctrl-C that came before it is carried out now."""
        if not self.id and turn:
            self.id = turn
            if self._stopped:
                self._stop()

    async def approve(self, asked: answer.ApprovalAsked, *, allowed: bool) -> None:
        """Answer an approval. Raises CallFailed."""
        await self._conversation.approve(self._session, self.id, ids.uuid(), asked, allowed=allowed)

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Inside the block Ctrl-C stops the turn; a second one leaves at once."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupted() -> None:
            if self._stopped:
                task.cancel()
            self._stopped = True
            if self.id:
                self._stop()

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _stop(self) -> None:
        self._tasks.spawn("cancel", self._cancel())

    async def _cancel(self) -> None:
        try:
            await self._conversation.cancel(self._session, self.id, ids.uuid())
        except CallFailed:  # it was over already, or the connection is gone: the stream tells
            return


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
        return await _Dialogue(talk, Conversation(channel, sign_in.bearer), typed, console).run()


async def models(places: Places, console: Console) -> int:
    """Print the catalogue of the running mesh. Raises MeshError."""
    running = record.running(places)
    async with door(f"{_host(running.bind)}:{running.port}") as channel:
        wallet = Wallet(places.client / "credentials.json")
        sign_in = SignIn(wallet, Identity(channel), SystemClock(), lambda: setup_code(places), None)
        console.print(_models(await Conversation(channel, sign_in.bearer).models()))
    return 0


class _Dialogue:
    """Reads what the person types: messages, and commands that begin with a slash."""

    def __init__(
        self, talk: Talk, conversation: Conversation, typed: PromptSession[str], console: Console
    ) -> None:
        self._talk, self._conversation, self._typed, self._console = talk, conversation, typed, console

    async def run(self) -> int:
        """Go on until /quit or the end of the input."""
        while True:
            try:
                line = (await self._typed.prompt_async(_PROMPT)).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if line in ("/quit", "/exit"):
                return 0
            if line:
                await self._heard(line)

    async def _heard(self, line: str) -> None:
        try:
            if line.startswith("/"):
                await self._command(*line[1:].split(maxsplit=1))
            else:
                await self._talk.ask(line, self._approve)
        except MeshError as error:
            self._console.print(f"{error.what} {error.cure}", style="red", markup=False, highlight=False)

    async def _command(self, name: str = "", argument: str = "") -> None:
        match name:
            case "model" if argument:
                self._talk.model = argument
                self._console.print(f"{argument} answers from now on.", markup=False, highlight=False)
            case "model":
                self._console.print(_models(await self._conversation.models()))
            case "sessions":
                await self._sessions(argument)
            case "new":
                self._talk.session = None
                self._console.print("A new session begins with your next message.")
            case "help":
                self._console.print(HELP, markup=False, highlight=False)
            case _:
                self._console.print(f"There is no /{name}. /help lists the commands.", markup=False)

    async def _sessions(self, argument: str) -> None:
        found = await self._conversation.sessions()
        if argument.isdigit() and 1 <= int(argument) <= len(found):
            chosen = found[int(argument) - 1]
            self._talk.session = chosen.id
            self._console.print(f"Going on with “{chosen.title}”.", markup=False, highlight=False)
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("", "last used (UTC)", "title"):
            table.add_column(heading)
        for number, line in enumerate(found, 1):
            table.add_row(str(number), line.updated, line.title)
        self._console.print(table if found else "No sessions yet.")

    async def _approve(self) -> bool:
        return (await self._typed.prompt_async("  allow it? [y/N] ")).strip().lower() in ("y", "yes")


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


def _models(found: list[answer.ModelLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "name", "provider", "runs", "context", ""):
        table.add_column(heading)
    for line in found:
        where = "here" if line.local else "elsewhere"
        marks = ("default " if line.default else "") + ("" if line.state == "ready" else line.state)
        table.add_row(line.name, line.title, line.provider, where, f"{line.context:,}", marks)
    return table


def _email(wallet: Wallet) -> str:
    stored = wallet.load()
    return stored.email if stored else ""


def _host(bind: str) -> str:
    """Answer the address to dial for one to bind."""
    if bind in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind
