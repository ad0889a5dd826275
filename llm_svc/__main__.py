"""Run the room: settings, app, serve."""

from __future__ import annotations

from chassis import serve, telemetry
from llm_svc.app import app
from llm_svc.settings import Settings


async def program() -> None:
    """Serve until told to stop."""
    settings = Settings.read()
    telemetry.configure("llm", fmt=settings.log_format)
    await serve.run_until_signal(app(settings))


if __name__ == "__main__":
    serve.main(program)
