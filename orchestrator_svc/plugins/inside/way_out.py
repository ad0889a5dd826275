"""The way out of a cell that was granted hosts: a loopback port whose connections go to the room's proxy socket.

Programs find it by the usual variables (`HTTPS_PROXY`), so urllib and others go through it by themselves.
"""

from __future__ import annotations

import socket
import threading

PORT = 3128  # of the cell's own loopback, which nobody else is on


def open_way_out(place: str) -> None:
    """Start it, in threads that end with the process."""
    server = socket.create_server(("127.0.0.1", PORT))
    threading.Thread(target=_accept, args=(server, place), daemon=True).start()


def _accept(server: socket.socket, place: str) -> None:
    while True:
        line, _ = server.accept()
        out = socket.socket(socket.AF_UNIX)
        try:
            out.connect(place)
        except OSError:
            line.close()
            continue
        for one, other in ((line, out), (out, line)):
            threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while chunk := one.recv(65_536):
            other.sendall(chunk)
    except OSError:
        pass
    finally:
        for each in (one, other):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
