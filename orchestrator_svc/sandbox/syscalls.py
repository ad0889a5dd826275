"""What a program in a cell may not ask of the kernel: a BPF program made from a table, no compiler needed."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

# Name: number on x86-64, number on aarch64 (None: it does not exist there).
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "mknod": (133, None),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "acct": (163, 89),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mknodat": (259, 33),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
}
# For a cell of one process: no child, and no memory that no limit counts.
_DENIED_ALONE: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "memfd_create": (319, 279),
}
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_CLONE_THREAD = 0x0001_0000
_CLONE_NAMESPACES = 0x7E02_0080
_FAMILIES = (1, 2, 10)  # unix, IPv4, IPv6: a cell has none of them outside itself; others are not so confined
_X32 = 0x4000_0000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_Step = tuple[int, int, int, int]


def program(machine: str, *, alone: bool) -> bytes | None:
    """The filter as the kernel takes it; None for a machine whose numbers are not known here.

    With `alone` the program can start threads but no process.
    """
    if machine not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[machine]
    denied = {**_DENIED, **(_DENIED_ALONE if alone else {})}
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _fail(errno.EPERM),
    ]
    for numbers in denied.values():
        number = numbers[column]
        if number is not None:
            steps += [(_EQUAL, 0, 1, number), _fail(errno.EPERM)]
    # Arguments of clone3 lie in memory, out of a filter's sight: without it the C library asks clone.
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), _fail(errno.ENOSYS)]
    steps += _clone(_CLONE[column], alone)
    steps += _socket(_SOCKET[column])
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _clone(number: int, alone: bool) -> Sequence[_Step]:
    body: list[_Step] = [
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _CLONE_NAMESPACES),
        _fail(errno.EPERM),
    ]
    if alone:
        body += [(_ANY_BIT, 1, 0, _CLONE_THREAD), _fail(errno.EPERM)]
    body.append((_RETURN, 0, 0, _ALLOW))
    return [(_EQUAL, 0, len(body), number), *body]


def _socket(number: int) -> Sequence[_Step]:
    body: list[_Step] = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for left, family in enumerate(reversed(_FAMILIES)):
        body.insert(1, (_EQUAL, left + 1, 0, family))
    body += [_fail(errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


def _fail(number: int) -> _Step:
    return (_RETURN, 0, 0, _FAIL | number)
