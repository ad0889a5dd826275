"""Where the tests find model weights: in this checkout's mesh, or in the folder TEST_MODELS names."""

from __future__ import annotations

from pathlib import Path

from chassis.settings import environment

_FOLDERS = (Path(environment().get("TEST_MODELS", ".mesh/models")), Path(".mesh/models"))


def _find(*names: str) -> Path | None:
    files = (folder / name for folder in _FOLDERS for name in names)
    return next((file.absolute() for file in files if file.is_file()), None)


TINY = _find("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct-q4_1.gguf", "tiny.gguf")
DEFAULT = _find("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "default.gguf")
