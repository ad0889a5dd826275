"""A small real room: serves grpc.health.v1 on a unix socket, and misbehaves on request.

room.py SOCKET [--after MARK] [--deaf] [--child PIDFILE]
  --after MARK   dies at once while the file MARK does not exist, and creates it
  --deaf         ignores SIGTERM
  --child FILE   starts a child that would outlive it, and writes its process id to FILE
"""

import argparse
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("socket")
    asked.add_argument("--after", type=Path)
    asked.add_argument("--deaf", action="store_true")
    asked.add_argument("--child", type=Path)
    told = asked.parse_args()
    if told.after and not told.after.exists():
        told.after.touch()
        say("dying as told")
        sys.exit(3)
    if told.child:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        told.child.write_text(str(child.pid))
    serve(told.socket, deaf=told.deaf)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def serve(socket: str, *, deaf: bool) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: stopping.set())
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    say("serving")
    stopping.wait()
    say("draining")
    server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
