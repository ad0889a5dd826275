"""The engine's process: loads the model, serves it on the socket, ends when its parent lets go of stdin."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import msgspec
import xllamacpp

from llm_svc.engine.options import READY, Options

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until stdin ends. Whatever fails while loading ends the process with a status and a line."""
    _die_with_parent()
    server = xllamacpp.Server(_parameters(msgspec.json.decode(sys.argv[1], type=Options)))
    os.chmod(server.listening_address.removeprefix("unix://"), 0o600)  # noqa: PTH101 — a socket's address
    os.write(sys.stdout.fileno(), READY)
    sys.stdin.buffer.read()
    os._exit(0)  # the library's own shutdown waits for open streams


def _die_with_parent() -> None:
    """On Linux the kernel ends us with our parent even while native code holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _parameters(options: Options) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.hostnames = [options.socket]
    parameters.n_ctx = options.context_tokens
    parameters.n_parallel = options.parallel
    parameters.kv_unified = True
    parameters.n_batch = parameters.n_ubatch = options.batch_tokens
    parameters.cache_ram_mib = options.prompt_cache_mib
    parameters.slot_save_path = options.state_dir.rstrip("/") + "/"
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_threads_http = options.parallel + 4
    parameters.use_jinja = True
    parameters.endpoint_slots = True
    parameters.ui = False
    parameters.verbosity = 0
    return parameters


if __name__ == "__main__":
    main()
