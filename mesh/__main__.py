"""The `mesh` command."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from chassis.clock import SystemClock
from mesh.chat import chat, models, token
from mesh.doctor import Patient, doctor
from mesh.errors import MeshError
from mesh.settings import MeshSettings
from mesh.status import status
from mesh.talk import Wish
from mesh.up import places_of, up

Command = Callable[[MeshSettings, argparse.Namespace, Console], int]


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when it did what was asked, 1 when it could not, 2 for wrong words."""
    told = _parser().parse_args(words)
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


def _models(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return asyncio.run(models(places_of(settings), console))


def _token(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return asyncio.run(token(places_of(settings), console))


def _chat(settings: MeshSettings, told: argparse.Namespace, console: Console) -> int:
    wish = Wish(once=told.once, as_json=told.json, session=told.session, model=told.model)
    return asyncio.run(chat(places_of(settings), wish, console))


COMMANDS: Mapping[str, Command] = {
    "up": _up,
    "chat": _chat,
    "status": _status,
    "doctor": _doctor,
    "models": _models,
    "token": _token,
}


def _parser() -> argparse.ArgumentParser:
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
    commands.add_parser("models", help="list the models that can answer")
    commands.add_parser("token", help="print an access token for scripts, good for ten minutes")
    commands.add_parser("doctor", help="name what is wrong on this machine, and its cure")
    return parser


if __name__ == "__main__":
    main()
