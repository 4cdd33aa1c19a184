"""Several 'hosts' on one machine: network namespaces joined by a bridge, whose cables can be pulled.

Needs Linux, root (CAP_NET_ADMIN and CAP_SYS_ADMIN; in Docker: ``--privileged``) and Debian's packages iproute2 (ip),
util-linux (unshare) and hostname. The machine's own network is not touched: the bridge has a namespace of its own.
"""

import functools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path

import pytest

# Removes the namespaces, and ends what still runs in them, when its standard input closes: at the end of the test or of
# the process, killed or not.
GUARD = """
cat > /dev/null
for name in "$@"; do
    ip netns pids "$name" | xargs -r kill -9
    ip netns del "$name"
done 2> /dev/null
"""
# The host name is what tells two machines apart that share everything else.
ON_HOST = 'hostname "$0" && exec "$@"'


@dataclass(frozen=True)
class Network:
    """Hosts that reach each other by address, not by name."""

    prefix: str
    names: tuple[str, ...]

    def address(self, name: str) -> str:
        """Return the IPv4 address of a host."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def namespace(self, name: str) -> str:
        """Return the name of a host's network namespace, as ``ip netns`` knows it."""
        return f"{self.prefix}-{name}"

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` on a host, under its host name; in one process."""
        assert name in self.names, name
        return ["ip", "netns", "exec", self.namespace(name), "unshare", "--uts", "sh", "-c", ON_HOST, name, *argv]

    def cut(self, name: str) -> None:
        """Take a host off the network: from now on its packets vanish, both ways; nobody is told."""
        # Off the bridge, not down: the kernel of a host whose own link is down refuses to send at once.
        _ip("-n", self.prefix, "link", "set", self._port(name), "nomaster")

    def heal(self, name: str) -> None:
        """Bring a host back that was cut off."""
        _ip("-n", self.prefix, "link", "set", self._port(name), "master", "bridge")

    def _port(self, name: str) -> str:
        return f"port{self.names.index(name) + 1}"


@contextmanager
def store_and_two() -> Iterator["Network"]:
    """Yield a host for a database and two for workers; skip the test, saying why, where there can be none."""
    reason = available()
    if reason is not None:
        pytest.skip(reason)
    with network("store", "alpha", "beta") as made:
        yield made


def enter(hosts: "Network", name: str) -> None:
    """Have this thread be on a host: what it opens is opened there."""
    with Path(f"/run/netns/{hosts.namespace(name)}").open() as namespace:
        assert CDLL(None).setns(namespace.fileno(), 0) == 0


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Make a host per name, joined by one switch; end what runs on them and remove them at exit.

    Raises:
        RuntimeError: it cannot be done here; ``available`` says so before.
    """
    made = Network(f"lrs{secrets.token_hex(4)}", names)
    namespaces = [made.prefix, *map(made.namespace, names)]
    guard = subprocess.Popen(["sh", "-c", GUARD, "sh", *namespaces], stdin=subprocess.PIPE, start_new_session=True)
    try:
        for namespace in namespaces:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        switch = ("-n", made.prefix)
        _ip(*switch, "link", "add", "bridge", "type", "bridge")
        _ip(*switch, "link", "set", "bridge", "up")
        for name in names:
            host, port = made.namespace(name), made._port(name)
            _ip(*switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", host, "address", "add", f"{made.address(name)}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip(*switch, "link", "set", port, "master", "bridge")
            _ip(*switch, "link", "set", port, "up")
        yield made
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(30)


@functools.cache
def available() -> str | None:
    """Return why this machine cannot play several hosts, for a skip; None if it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in [("ip", "iproute2"), ("unshare", "util-linux"), ("hostname", "hostname")]:
        if shutil.which(program) is None:
            return f"network namespaces need the program {program}: apt-get install {package}"
    try:
        with network("probe") as made:
            subprocess.run(made.command("probe", ["true"]), check=True, capture_output=True)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"this machine does not let us make network namespaces: {error}"
    return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
