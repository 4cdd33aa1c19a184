"""File systems of a process's own: full, read-only, or of another kind; nobody else sees them.

Needs Linux and root (CAP_SYS_ADMIN; in Docker: ``--privileged``).
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

from conftest import finished, started

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18


def alone() -> None:
    """Give this process mounts of its own; what it mounts from now on ends with it."""
    _check(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS))
    _mount("none", Path("/"), "", MS_REC | MS_PRIVATE)


def tmpfs(folder: Path, n_bytes: int) -> None:
    """Mount an empty file system with so much room."""
    _mount("tmpfs", folder, "tmpfs", 0, f"size={n_bytes}")


def make_read_only(folder: Path) -> None:
    """Make a file system read-only that ``tmpfs`` has mounted."""
    _mount("tmpfs", folder, "tmpfs", MS_REMOUNT | MS_RDONLY)


@functools.cache
def available() -> str | None:
    """Return why this machine lets nobody mount anything, for a skip; None if it does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounts need Linux and root"
    return None if finished(started(alone)) == 0 else "this machine does not let us make mounts"


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    _check(libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, data.encode()))


def _check(code: int) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
