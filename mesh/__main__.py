"""The `mesh` command."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from chassis.clock import SystemClock
from mesh.doctor import Patient, doctor
from mesh.errors import MeshError
from mesh.settings import MeshSettings
from mesh.up import places_of, up

Command = Callable[[MeshSettings, argparse.Namespace, Console], int]


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when it did what was asked, 1 when it could not, 2 for wrong words."""
    told = _parser().parse_args(words)
    console = Console()
    try:
        sys.exit(COMMANDS[told.command](MeshSettings.load(), told, console))
    except MeshError as error:
        Console(stderr=True).print(f"mesh: {error.what}\n{error.cure}", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _up(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    up(settings, console)
    return 0


def _doctor(settings: MeshSettings, _: argparse.Namespace, console: Console) -> int:
    return doctor(Patient(settings=settings, places=places_of(settings), clock=SystemClock()), console)


COMMANDS: Mapping[str, Command] = {"up": _up, "doctor": _doctor}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mesh", description="Your own assistant, on your own machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start the mesh and stay until Ctrl-C")
    commands.add_parser("doctor", help="name what is wrong on this machine, and its cure")
    return parser


if __name__ == "__main__":
    main()
