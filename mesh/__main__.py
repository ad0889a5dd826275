"""The `mesh` command."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from chassis.clock import SystemClock
from mesh import account, added, backup, library, reminders, secret, users
from mesh.chat import chat, models, token
from mesh.doctor import Patient, doctor
from mesh.errors import MeshError
from mesh.known import actions as known
from mesh.reference import reference
from mesh.settings import MeshSettings
from mesh.status import status
from mesh.talk import Wish
from mesh.tools import tools
from mesh.up import places_of, up

Command = Callable[[MeshSettings, argparse.Namespace, Console], int]


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when it did what was asked, 1 when it could not, 2 for wrong words."""
    told = parser().parse_args(words)
    console = Console()
    try:
        sys.exit(COMMANDS[told.command](MeshSettings.load(), told, console))
    except MeshError as error:
        Console(stderr=True).print(
            f"mesh: {error.what}\n{error.cure}", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def _up(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    up(settings, console)
    return 0


def _doctor(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return doctor(Patient(settings=settings, places=places_of(settings), clock=SystemClock()), console)


def _status(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return asyncio.run(status(places_of(settings), console))


def _models(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    places = places_of(settings)
    match told.action:
        case "list":
            return library.show(settings, places, console)
        case "pull" if told.url:
            return library.pull_from(settings, places, told.name, told.url, told.sha256, console)
        case "pull":
            return library.pull(settings, places, told.name, console)
        case "use":
            return library.use(settings, places, told.name, console)
        case "remove":
            return library.remove(settings, places, told.name, console)
        case _:
            return asyncio.run(models(places, console))


def _token(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return asyncio.run(token(places_of(settings), console))


def _chat(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    wish = Wish(once=told.once, as_json=told.json, session=told.session, model=told.model)
    return asyncio.run(chat(places_of(settings), wish, console))


def _user(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    places = places_of(settings)
    match told.action:
        case "invite":
            return asyncio.run(users.invite(places, told.email, console))
        case "reset":
            return asyncio.run(users.reset(places, told.user, console))
        case "signout":
            return asyncio.run(users.sign_out(places, told.user, told.block, console))
        case "delete":
            return asyncio.run(users.delete(places, told.user, told.confirm, console))
        case _:
            return asyncio.run(users.users(places, console))


def _account(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    places = places_of(settings)
    if told.action in known.ACTIONS:
        return asyncio.run(_perform(known.ACTIONS[told.action](places, told, console)))
    match told.action:
        case "password":
            return asyncio.run(account.password(places, console))
        case "devices":
            return asyncio.run(account.devices(places, console))
        case "revoke":
            return asyncio.run(account.revoke(places, told.device, console))
        case "export":
            return asyncio.run(account.export(places, told.file, console, without_files=told.without_files))
        case "import":
            return asyncio.run(account.import_(places, told.file, console))
        case "delete":
            return asyncio.run(account.delete(places, console))
        case _:
            return asyncio.run(account.show(places, console))


def _backup(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    return asyncio.run(backup.backup(places_of(settings), told.to and told.to.absolute(), console))


def _restore(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    return asyncio.run(backup.restore(places_of(settings), told.file.absolute(), console))


def _tools(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return asyncio.run(tools(places_of(settings), console))


def _reminders(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    places = places_of(settings)
    if told.action == "cancel":
        return asyncio.run(reminders.cancel(places, told.reminder, console))
    return asyncio.run(reminders.reminders(places, console))


def _reference(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return reference(places_of(settings), console)


def _plugins(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return added.plugins(settings, places_of(settings), console)


def _mcp(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    return added.mcp(settings, places_of(settings), told, console)


async def _perform(work: Awaitable[int]) -> int:
    return await work


def _secret(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    places = places_of(settings)
    match told.action:
        case "set":
            return secret.put(places, told.name, console)
        case "remove":
            return secret.remove(places, told.name, console)
        case _:
            return secret.names(places, console)


COMMANDS: Mapping[str, Command] = {
    "up": _up,
    "chat": _chat,
    "status": _status,
    "doctor": _doctor,
    "models": _models,
    "tools": _tools,
    "plugins": _plugins,
    "mcp": _mcp,
    "reminders": _reminders,
    "reference": _reference,
    "token": _token,
    "user": _user,
    "account": _account,
    "secret": _secret,
    "backup": _backup,
    "restore": _restore,
}


def parser() -> argparse.ArgumentParser:
    """The words of the command."""
    parser = argparse.ArgumentParser(prog="mesh", description="Your own assistant, on your own machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start the mesh and stay until Ctrl-C")
    chatting = commands.add_parser("chat", help="talk to your assistant")
    chatting.add_argument("--once", metavar="TEXT", help="ask this, print the answer and end")
    chatting.add_argument(
        "--json", action="store_true", help="with --once: print each event as a line of JSON"
    )
    chatting.add_argument("--session", metavar="ID", help="go on with this session")
    chatting.add_argument("--model", metavar="NAME", help="let this model answer")
    commands.add_parser("status", help="show the rooms; exit with 0 only when all serve")
    _local(
        commands.add_parser(
            "models", help="list the models that can answer; get, choose and remove those here"
        )
    )
    commands.add_parser("tools", help="list what the assistant can do, and what is turned on")
    added.add_commands(commands)
    _reminding(commands.add_parser("reminders", help="list your reminders, or take one back"))
    commands.add_parser("reference", help="get the offline reference: an encyclopedia and a gazetteer")
    commands.add_parser("token", help="print an access token for scripts, good for ten minutes")
    commands.add_parser("doctor", help="name what is wrong on this machine, and its cure")
    _people(commands.add_parser("user", help="accounts, for the owner of this machine"))
    _own(commands.add_parser("account", help="your own account, devices, preferences and memories"))
    _secrets(commands.add_parser("secret", help="keys of providers, kept encrypted"))
    keeping = commands.add_parser("backup", help="write the whole mesh into one file, while it serves")
    keeping.add_argument("--to", metavar="DIR", type=Path, help="folder, outside of the data folder")
    restoring = commands.add_parser("restore", help="put a backup in the place of the present state")
    restoring.add_argument("file", metavar="FILE", type=Path, help="what `mesh backup` wrote")
    return parser


def _reminding(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="list them")
    actions.add_parser("cancel", help="take one back").add_argument("reminder", help="its id")


def _secrets(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = actions.add_parser("set", help="keep a secret; its value is asked for, or read from a pipe")
    setting.add_argument("name", help="the setting it fills, such as LLM_OPENAI_KEY")
    actions.add_parser("list", help="list the names")
    actions.add_parser("remove", help="take one away").add_argument("name", help="its name")


def _local(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="list the models that can run on this machine")
    pulling = actions.add_parser("pull", help="get a model's weights now")
    pulling.add_argument("name", help="one of the list; with --url, the name it gets")
    pulling.add_argument("--url", default="", help="the address of any GGUF file")
    pulling.add_argument("--sha256", default="", help="the SHA-256 its publisher names")
    actions.add_parser("use", help="let a model answer from the next start on").add_argument("name")
    actions.add_parser("remove", help="delete a model's weights").add_argument("name")


def _people(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    inviting = actions.add_parser("invite", help="print a code with which one person can register")
    inviting.add_argument("email", nargs="?", default="", help="only for this address")
    actions.add_parser("list", help="list the accounts")
    resetting = actions.add_parser("reset", help="give an account a new password and sign it out")
    resetting.add_argument("user", help="its address or id")
    leaving = actions.add_parser("signout", help="end an account's sign-ins")
    leaving.add_argument("user", help="its address or id")
    leaving.add_argument("--block", action="store_true", help="and refuse new ones, until run without")
    deleting = actions.add_parser("delete", help="delete an account and everything of it, in every room")
    deleting.add_argument("user", help="its address or id")
    deleting.add_argument("--confirm", metavar="ADDRESS", required=True, help="its address once more")


def _own(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("show", help="show who is signed in here")
    actions.add_parser("password", help="change the password; other devices are signed out")
    actions.add_parser("devices", help="list your devices")
    actions.add_parser("revoke", help="sign a device out from afar").add_argument("device", help="its id")
    leaving = actions.add_parser("export", help="write everything of your account into one file")
    leaving.add_argument("file", type=Path, help="where to, for example assistant.zip")
    leaving.add_argument("--without-files", action="store_true", help="the records alone")
    arriving = actions.add_parser("import", help="add what such a file holds to your account")
    arriving.add_argument("file", type=Path, help="the file")
    actions.add_parser("delete", help="delete your account and everything of it")
    known.add_actions(actions)


if __name__ == "__main__":
    main()
