"""Processes that hold leases: which one this is, and whether another one of the same machine still lives."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that may hold leases."""

    host: str
    pid: int
    process_space: str
    """Processes with the same one see each other's process ids: a container has its own."""
    machine: str
    """One running kernel; containers of a host share it, and so may share a SQLite file."""
    process_started: float
    """Seconds since the epoch, by its host; a process id is used again."""

    def __str__(self) -> str:
        """Return the worker's name: ``host:pid``."""
        return f"{self.host}:{self.pid}"


def this_process() -> Holder:
    """Return the holder that this process is."""
    started = psutil.Process().create_time()
    return Holder(socket.gethostname(), os.getpid(), process_space(), machine(), started)


@cache
def machine() -> str:
    """Return what tells this running kernel from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # No Linux: there are no containers with a kernel of another host either.
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


@cache
def process_space() -> str:
    """Return what tells this namespace of process ids from any other."""
    try:
        return f"{machine()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return machine()


def lives(pid: int, process_started: float) -> bool:
    """Whether that very process still runs; a dead child that nobody waits for stays as a zombie."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - process_started) < 1.0
    except psutil.NoSuchProcess:
        return False
