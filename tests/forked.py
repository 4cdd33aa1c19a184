"""Commands in processes of their own that fork off one in which torch and Optuna are imported already.

A process that a test starts spends four seconds of its five on imports. One that forks off is a process as any other,
with a process id, a group, signals, files and an environment of its own; only that its imports lie behind it. What a
cold start is tested for is started cold.
"""

import atexit
import ctypes
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

PRELOADED = (
    "torch",
    "optuna",
    "alembic.command",
    "lrsearch.cli.app",
    "lrsearch.run",
    "lrsearch.gather",
    "lrsearch.report.answer",
    "lrsearch.training.serial",
    "lrsearch.training.loop.engine",
)
TAKEN_AT_START = ("OMP_", "GOMP_", "KMP_", "MKL_", "PYTHON", "LD_", "RAY_")
"""How variables begin that are read when Python or a library is loaded: a process that forks off heeds none."""


class Forked:
    """A process that has forked off: what ``subprocess.Popen`` says of its own."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return its exit code, minus a signal's number where that has ended it; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it runs on after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("lrsearch", timeout or 0)
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL, if it runs."""
        self.send_signal(signal.SIGKILL)


_origin: list[socket.socket] = []


def _origin_of_all() -> socket.socket:
    """Return the end at which forks are asked for; the process at the other begins with the first."""
    if not _origin:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},  # as the command asks for before it imports PyTorch
            start_new_session=True,
        )
        theirs.close()
        _origin.append(ours)

        def end() -> None:
            ours.close()
            process.wait()

        atexit.register(end)
    return _origin[0]


def fork(
    argv: list[str], cwd: Path, environment: Mapping[str, str], out: IO[str], err: IO[str], *, plain: bool = False
) -> Forked:
    """Start a command in ``cwd``, in a group of its own, without input, with these files for its output.

    Args:
        argv: its words.
        cwd: where it is started.
        environment: all its variables.
        out: for what it prints.
        err: for what else it says.
        plain: without what root may do beyond others (Linux's capabilities).
    """
    end = _origin_of_all()
    order = json.dumps({"argv": argv, "cwd": str(cwd), "environment": dict(environment), "plain": plain}).encode()
    read, write = os.pipe()
    socket.send_fds(end, [len(order).to_bytes(4)], [out.fileno(), err.fileno(), write])
    os.close(write)
    end.sendall(order)
    answer = _whole(end, 4)
    assert len(answer) == 4, "the process that others fork off has ended"  # a signal to process 0 would reach us all
    return Forked(int.from_bytes(answer), read)


def _whole(end: socket.socket, n: int) -> bytes:
    return end.recv(n, socket.MSG_WAITALL)


def serve(end: socket.socket) -> list[str]:
    """Fork as often as is asked, until whoever asks is gone; return in each child, with the words of its command."""
    children: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([end, *children], [], [])[0]:
            if ready is not end:
                pid, status = children.pop(ready)
                os.write(status, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(ready)
                os.close(status)
                continue
            length, descriptors, _, _ = socket.recv_fds(end, 4, 3)
            if not length:
                os._exit(0)
            out, err, status = descriptors
            order = json.loads(_whole(end, int.from_bytes(length)))
            pid = os.fork()
            if pid == 0:
                for left in (*children, *(held for _, held in children.values()), status):
                    os.close(left)
                end.close()
                _become(out, err, order["cwd"], order["environment"])
                if order["plain"]:
                    _give_up_capabilities()
                return list(order["argv"])
            with suppress(PermissionError, ProcessLookupError):
                os.setpgid(pid, pid)
            children[os.pidfd_open(pid)] = (pid, status)
            os.close(out)
            os.close(err)
            end.sendall(pid.to_bytes(4))


def _become(out: int, err: int, cwd: str, environment: dict[str, str]) -> None:
    """Be as a process that has just been started."""
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    sys.path[0] = cwd
    os.environ.clear()
    os.environ.update(environment)
    for found, descriptor in ((out, 1), (err, 2)):
        os.dup2(found, descriptor)
        os.close(found)
    sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]


def _give_up_capabilities() -> None:
    """Be as setpriv(1) makes a process whose capabilities it takes: what it may is up to the files' modes."""
    version_3_of_this_process, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    if ctypes.CDLL(None, use_errno=True).capset(version_3_of_this_process, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    import gc
    import importlib

    asked = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    words = serve(asked)
    # The name that `python -m` has, so that workers find it.
    sys.argv = ["lrsearch", *words]
    runpy.run_module("lrsearch", run_name="__main__", alter_sys=True)
