"""``python -m context_svc``: settings, then the room, until SIGTERM."""

from __future__ import annotations

from chassis import telemetry
from chassis.serve import main, run_until_signal, stop_soon
from context_svc.app import open_app
from context_svc.foundation import ROOM
from context_svc.settings import ContextSettings


async def program() -> None:
    """Run the room with the settings of the environment."""
    settings = ContextSettings.read()
    telemetry.configure(ROOM, settings.log_level, settings.log_format)
    await run_until_signal(open_app(settings, restart=stop_soon))


if __name__ == "__main__":
    main(program)
