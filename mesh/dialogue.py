"""What a person types at `mesh chat`: messages, and commands that begin with a slash."""

from prompt_toolkit import PromptSession
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis import ids
from mesh import answer
from mesh.consent import AtTerminal
from mesh.errors import CallFailed, MeshError
from mesh.known.peers import Known
from mesh.known.tables import memory_table
from mesh.peers import Conversation
from mesh.talk import Talk

HELP = """\
/edit TEXT      say your last message differently; the old one stays as a branch
/retry          another answer to your last message
/stop           stop the last turn, also one that waits for you
/clear          empty this session, for every device
/model [NAME]   the models there are, or answer with this one from now on
/sessions [N]   your sessions, or go on with number N
/new            begin a new session
/receipt        what the last answer used, cost and sent out
/memory         what is remembered of you
/forget ID      forget one of it, or `all`
/help           this
/quit           leave (Ctrl-D does too); Ctrl-C stops an answer"""

_PROMPT = "» "


class Dialogue:
    """Reads what the person types: messages, and commands that begin with a slash."""

    def __init__(
        self,
        talk: Talk,
        conversation: Conversation,
        known: Known,
        typed: PromptSession[str],
        console: Console,
    ) -> None:
        self._talk, self._conversation, self._typed, self._console = talk, conversation, typed, console
        self._person = AtTerminal(typed, console)
        self._known = known

    async def run(self) -> int:
        """Go on until /quit or the end of the input. What could not be sent is there to be sent again."""
        left = ""
        while True:
            try:
                line = (await self._typed.prompt_async(_PROMPT, default=left)).strip()
            except KeyboardInterrupt:
                left = ""
                continue
            except EOFError:
                return 0
            if line in ("/quit", "/exit"):
                return 0
            left = await self._heard(line) if line else ""

    async def _heard(self, line: str) -> str:
        """Do what was typed; answer what of it should stand in the next line: all of it when a call failed."""
        try:
            if line.startswith("/"):
                await self._command(*line[1:].split(maxsplit=1))
            else:
                await self._talk.ask(line, self._person)
        except MeshError as error:
            self._console.print(f"{error.what} {error.cure}", style="red", markup=False, highlight=False)
            return line if isinstance(error, CallFailed) else ""
        return ""

    async def _command(self, name: str = "", argument: str = "") -> None:
        match name:
            case "model" if argument:
                self._talk.model = argument
                self._console.print(f"{argument} answers from now on.", markup=False, highlight=False)
            case "model":
                self._console.print(model_table(await self._conversation.models()))
            case "sessions":
                await self._sessions(argument)
            case "new":
                self._talk.go_on(None)
                self._console.print("A new session begins with your next message.")
            case "receipt":
                await self._receipt()
            case "edit" if argument:
                await self._talk.edit(argument, self._person)
            case "edit":
                self._console.print("Write the new words behind it: /edit TEXT.", markup=False)
            case "retry":
                await self._talk.retry(self._person)
            case "stop":
                await self._talk.stop()
            case "clear":
                await self._talk.clear()
                self._console.print("This session is empty now, on every device.")
            case "memory":
                lines = await self._known.memories()
                self._console.print(memory_table(lines) if lines else "Nothing is remembered.")
            case "forget" if argument:
                gone = await self._known.forget(ids.uuid(), "" if argument == "all" else argument)
                self._console.print(f"{gone} forgotten." if gone else "There is no such memory.")
            case "help":
                self._console.print(HELP, markup=False, highlight=False)
            case _:
                self._console.print(f"There is no /{name}. /help lists the commands.", markup=False)

    async def _sessions(self, argument: str) -> None:
        found = await self._conversation.sessions()
        if argument.isdigit() and 1 <= int(argument) <= len(found):
            chosen = found[int(argument) - 1]
            self._talk.go_on(chosen.id)
            self._console.print(f"Going on with “{chosen.title}”.", markup=False, highlight=False)
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("", "last used (UTC)", "title"):
            table.add_column(heading)
        for number, line in enumerate(found, 1):
            table.add_row(str(number), line.updated, line.title)
        self._console.print(table if found else "No sessions yet.")

    async def _receipt(self) -> None:
        if not (self._talk.session and self._talk.turn):
            self._console.print("Nothing was answered here yet.")
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for line in (await self._conversation.receipt(self._talk.session, self._talk.turn)).lines:
            table.add_row(*map(escape, line))
        self._console.print(table)


def model_table(found: list[answer.ModelLine]) -> Table:
    """Answer the catalogue as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "name", "provider", "runs", "context", ""):
        table.add_column(heading)
    for line in found:
        where = "here" if line.local else "elsewhere"
        marks = ("default " if line.default else "") + ("" if line.state == "ready" else line.state)
        table.add_row(line.name, line.title, line.provider, where, f"{line.context:,}", marks)
    return table
