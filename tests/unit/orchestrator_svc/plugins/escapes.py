"""A plugin that tries to get out. Each action is one attempt: it answers ESCAPED when it got somewhere."""

import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from mesh_plugin import action

OUT = "ESCAPED"
LIBC = ctypes.CDLL(None, use_errno=True)


def read(path: str) -> str:
    return OUT if Path(path).read_bytes() else "empty"


def asked(number: int, *arguments: int) -> str:
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return OUT


@action(effect="none")
def reads_passwords(outside: dict) -> str:
    """Tries."""
    return read("/etc/passwd")


@action()
def reads_a_key(outside: dict) -> str:
    """Tries."""
    return read(outside["key"])


@action()
def reads_another_plugin(outside: dict) -> str:
    """Tries."""
    return OUT if len(os.listdir(Path(__file__).parent)) > 1 else "alone"


@action()
def follows_a_link(outside: dict) -> str:
    """Tries."""
    Path("/tmp/link").unlink(missing_ok=True)
    os.symlink(outside["key"], "/tmp/link")
    return read("/tmp/link")


@action()
def reads_the_environment(outside: dict) -> str:
    """Tries."""
    return OUT if outside["secret"] in os.environ else "not there"


@action()
def reads_the_rooms_environment(outside: dict) -> str:
    """Tries."""
    return read(f"/proc/{outside['room']}/environ")


@action()
def lists_processes(outside: dict) -> str:
    """Tries."""
    return OUT if len([each for each in os.listdir("/proc") if each.isdigit()]) > 3 else "alone"


@action()
def connects_to_loopback(outside: dict) -> str:
    """Tries."""
    with socket.create_connection(("127.0.0.1", outside["port"]), timeout=2):
        return OUT


@action()
def connects_to_the_socket_of_a_room(outside: dict) -> str:
    """Tries."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(outside["socket"])
        return OUT


@action()
def connects_to_an_abstract_socket(outside: dict) -> str:
    """Tries."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect("\0" + outside["abstract"])
        return OUT


@action()
def asks_the_metadata_service(outside: dict) -> str:
    """Tries."""
    with socket.socket() as line:
        line.settimeout(2)
        code = line.connect_ex(("169.254.169.254", 80))
        return "nowhere" if code == errno.ENETUNREACH else OUT


@action()
def sends_a_datagram(outside: dict) -> str:
    """Tries."""
    with socket.socket(type=socket.SOCK_DGRAM) as line:
        line.sendto(b"secret", ("192.0.2.1", 53))
        return OUT


@action()
def opens_a_raw_socket(outside: dict) -> str:
    """Tries."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return OUT


@action()
def speaks_to_the_host_of_a_virtual_machine(outside: dict) -> str:
    """Tries."""
    with socket.socket(socket.AF_VSOCK):
        return OUT


@action()
def asks_the_kernel_for_routes(outside: dict) -> str:
    """Tries."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW):
        return OUT


@action()
def forks(outside: dict) -> str:
    """Tries."""
    if os.fork() == 0:
        os._exit(0)
    return OUT


@action()
def starts_a_program(outside: dict) -> str:
    """Tries."""
    return OUT if subprocess.run([sys.executable, "-c", ""], check=True) else ""


@action()
def clones(outside: dict) -> str:
    """Tries."""
    return asked(56 if os.uname().machine == "x86_64" else 220, signal.SIGCHLD, 0, 0, 0, 0)


@action()
def starts_a_thousand_threads(outside: dict) -> str:
    """Tries."""
    for _ in range(1_000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return OUT


@action()
def becomes_another_program(outside: dict) -> str:
    """Tries."""
    os.execv("/bin/sh", ["sh", "-c", "cat /etc/passwd"])


@action()
def takes_all_memory(outside: dict) -> str:
    """Tries."""
    taken = [bytearray(64 * 1024 * 1024) for _ in range(16)]
    return OUT if taken else ""


@action()
def takes_memory_that_nobody_counts(outside: dict) -> str:
    """Tries."""
    return OUT if os.memfd_create("more") else ""


@action()
def fills_the_disk(outside: dict) -> str:
    """Tries."""
    for number in range(4):
        Path(f"/tmp/{number}").write_bytes(bytes(8 * 1024 * 1024))
    return OUT


@action()
def writes_a_file_that_is_too_large(outside: dict) -> str:
    """Tries."""
    with open("/tmp/large", "wb") as file:
        file.truncate(1024**3)
    return OUT


@action()
def fills_shared_memory(outside: dict) -> str:
    """Tries."""
    Path("/dev/shm/more").write_bytes(b"more")
    return OUT


@action()
def writes_its_own_file(outside: dict) -> str:
    """Tries."""
    Path(__file__).write_text(Path(__file__).read_text() + " ")
    return OUT


@action()
def writes_what_loads_it(outside: dict) -> str:
    """Tries."""
    import mesh_plugin

    Path(mesh_plugin.__file__).write_text("")
    return OUT


@action()
def writes_into_the_interpreter(outside: dict) -> str:
    """Tries."""
    Path(os.__file__).with_name("planted.py").write_text("")
    return OUT


@action()
def writes_anywhere(outside: dict) -> str:
    """Tries."""
    Path("/planted").write_text("")
    return OUT


@action()
def traces_another_process(outside: dict) -> str:
    """Tries."""
    if LIBC.ptrace(16, outside["room"], 0, 0) < 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "refused")
    return OUT


@action()
def lets_itself_be_traced(outside: dict) -> str:
    """Tries."""
    if LIBC.ptrace(0, 0, 0, 0) < 0:  # PTRACE_TRACEME
        raise OSError(ctypes.get_errno(), "refused")
    return OUT


@action()
def makes_a_namespace(outside: dict) -> str:
    """Tries."""
    if LIBC.unshare(0x10000000) < 0:  # CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "refused")
    return OUT


@action()
def mounts(outside: dict) -> str:
    """Tries."""
    if LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return OUT


@action()
def makes_a_device(outside: dict) -> str:
    """Tries."""
    os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    return OUT


@action()
def uses_the_kernels_keys(outside: dict) -> str:
    """Tries."""
    return asked(250 if os.uname().machine == "x86_64" else 219, 0, -3 & 0xFFFFFFFF, 1)


@action()
def opens_a_ring(outside: dict) -> str:
    """Tries."""
    number = asked(425, 1, 0)
    return number


@action()
def raises_its_limits(outside: dict) -> str:
    """Tries."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return OUT


@action()
def becomes_somebody_else(outside: dict) -> str:
    """Tries."""
    os.setuid(1)
    return OUT


@action()
def signals_the_room(outside: dict) -> str:
    """Tries."""
    os.kill(outside["room"], signal.SIGCONT)
    return OUT


@action()
def signals_everybody(outside: dict) -> str:
    """Tries."""
    if outside["victim"] == 0:
        return "nobody"
    os.kill(outside["victim"], signal.SIGTERM)
    return OUT


@action()
def imports_the_room(outside: dict) -> str:
    """Tries."""
    sys.path += outside["path"]
    import chassis

    return OUT if chassis else ""


@action()
def imports_what_is_installed_beside(outside: dict) -> str:
    """Tries."""
    sys.path += outside["path"]
    import grpc

    return OUT if grpc else ""


@action()
def writes_garbage_to_the_room(outside: dict) -> str:
    """Tries."""
    for each in range(3, 20):
        try:
            os.write(each, b"\0\0\0\5{{{{{")
        except OSError:
            continue
    return "wrote"


@action()
def claims_a_frame_of_four_gigabytes(outside: dict) -> str:
    """Tries."""
    for each in range(3, 20):
        try:
            os.write(each, b"\xff\xff\xff\xff")
        except OSError:
            continue
    time.sleep(60)
    return "wrote"


@action()
def answers_too_much(outside: dict) -> str:
    """Tries."""
    return "x" * 10_000_000


@action()
def answers_a_little_too_much(outside: dict) -> str:
    """Tries."""
    return "x" * (256 * 1024 + 1)


@action()
def goes_away(outside: dict) -> str:
    """Tries."""
    os._exit(0)


@action()
def crashes(outside: dict) -> str:
    """Tries."""
    return ctypes.string_at(0)


@action()
def never_returns(outside: dict) -> str:
    """Tries."""
    time.sleep(600)
    return OUT


@action()
def computes_for_ever(outside: dict) -> str:
    """Tries."""
    while True:
        pass
