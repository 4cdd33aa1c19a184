"""Who may do what: everything that is asked of the dashboard passes here first, and every answer on its way out.

A WSGI application around another one. In this order: what would change something in read-only mode, names of the
machine that are not its own (a page elsewhere may have its own name resolve to 127.0.0.1), the password, requests that
a page of another site makes. Nothing of an error leaves it but one sentence.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from lrsearch.dashboard.password import Password
from lrsearch.errors import StorageError

log = logging.getLogger(__name__)

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

SAFE = ("GET", "HEAD")
HEALTH = "/healthz"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

BUCKETS = 4096
"""All addresses share so many counters of failures, so that many addresses cannot fill the memory."""

ALWAYS: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    # Not DENY: optuna-dashboard shows an artifact in a frame of its own page.
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FRAMES = "frame-ancestors 'self'; base-uri 'none'; form-action 'self'; object-src 'none'"
"""Added to whatever policy an answer has: the narrower one holds."""
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/\\\[\]]+)(?::[0-9]*)?")
DROPPED = frozenset({"server", "access-control-allow-origin", *(name.lower() for name in ALWAYS)})
"""optuna-dashboard lets every site read artifacts."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what."""

    password: Password | None = None
    hosts: frozenset[str] = LOOPBACK_NAMES
    """Names by which the dashboard may be called where there is no password, lower case, without a port."""
    read_only: bool = False
    failures: int = 5
    """Wrong passwords from one address within ``window_seconds``, after which none is looked at."""
    window_seconds: int = 60


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: HTTPStatus
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()


class Guard:
    """The application that is served."""

    def __init__(self, app: Application, access: Access) -> None:
        self._app, self._access = app, access
        self._limit = RateLimitItemPerSecond(access.failures, access.window_seconds)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._salt = secrets.token_bytes(16)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        refusal = self._refusal(environ)
        if refusal is not None:
            return _refused(refusal, environ, start_response)

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            return start_response(status, _hardened(environ, headers), exc_info)

        try:
            return self._app(environ, start)
        except StorageError as error:
            # A sentence already, and the password masked in it.
            log.warning("%s", error)
            return _refused(_Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}"), environ, start_response)
        except Exception:
            # Of whichever library; its reader gets no traceback.
            log.exception("%s %r cannot be answered", environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
            sentence = "The dashboard cannot answer this: a defect, which its log names."
            return _refused(_Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, sentence), environ, start_response)

    def _refusal(self, environ: Environ) -> _Refusal | None:
        method = environ["REQUEST_METHOD"]
        if self._access.read_only and method not in SAFE:
            allow = (("Allow", ", ".join(SAFE)),)
            return _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "This dashboard is read-only.", allow)
        if environ.get("PATH_INFO") == HEALTH and method in SAFE:
            return None
        refusal = self._unknown_host(environ) if self._access.password is None else self._unknown_person(environ)
        return refusal or _cross_site(environ)

    def _unknown_host(self, environ: Environ) -> _Refusal | None:
        host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
        if host is not None and host[1].strip("[]").lower() in self._access.hosts:
            return None
        sentence = "This dashboard is not known by that name; --allowed-host adds one."
        return _Refusal(HTTPStatus.FORBIDDEN, sentence)

    def _unknown_person(self, environ: Environ) -> _Refusal | None:
        assert self._access.password is not None
        given = environ.get("HTTP_AUTHORIZATION", "")
        if not given:
            return _UNAUTHORIZED
        address = environ.get("REMOTE_ADDR", "")
        bucket = self._bucket(address)
        if self._limiter.test(self._limit, bucket):
            if self._access.password.admits(given):
                return None
            # False when others of this address have failed meanwhile.
            if self._limiter.hit(self._limit, bucket):
                if not self._limiter.test(self._limit, bucket):
                    seconds = self._access.window_seconds
                    log.warning("too many wrong passwords from %s: none is looked at for %d s", address, seconds)
                return _UNAUTHORIZED
        reset = self._limiter.get_window_stats(self._limit, bucket).reset_time
        wait = str(max(1, round(reset - time.time() + 0.5)))
        sentence = f"Too many wrong passwords from this address; try again in {wait} s."
        return _Refusal(HTTPStatus.TOO_MANY_REQUESTS, sentence, (("Retry-After", wait),))

    def _bucket(self, address: str) -> str:
        try:
            known = ipaddress.ip_address(address)
            # Each owner of an IPv6 address has 2**64 of them.
            near = str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else address
        except ValueError:
            near = address
        digest = hmac.digest(self._salt, near.encode(), hashlib.sha256)
        return str(int.from_bytes(digest[:4], "big") % BUCKETS)


_UNAUTHORIZED = _Refusal(
    HTTPStatus.UNAUTHORIZED,
    "This dashboard asks for its password (any user name), or a token: Authorization: Bearer.",
    (("WWW-Authenticate", 'Basic realm="lrsearch", charset="UTF-8"'),),
)


def _cross_site(environ: Environ) -> _Refusal | None:
    """Refuse what a page of another site has a browser ask; a link from there to here is none of that."""
    site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
    foreign = site not in ("same-origin", "none")
    if environ["REQUEST_METHOD"] in SAFE:
        foreign = foreign and environ.get("HTTP_SEC_FETCH_MODE") != "navigate"
    elif (origin := environ.get("HTTP_ORIGIN")) is not None:
        # Also of browsers that do not say more: those that see no secure connection.
        foreign = foreign or origin.lower().partition("://")[2] != environ.get("HTTP_HOST", "").lower()
    return _Refusal(HTTPStatus.FORBIDDEN, "This was asked by a page of another site.") if foreign else None


def _refused(refusal: _Refusal, environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = f"{refusal.sentence}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *refusal.headers]
    start_response(f"{refusal.status.value} {refusal.status.phrase}", _hardened(environ, headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _hardened(environ: Environ, headers: Headers) -> Headers:
    """Return the headers of an answer with those that keep its reader safe."""
    kept = [(name, value) for name, value in headers if name.lower() not in DROPPED]
    said = {name.lower(): value for name, value in kept}
    path = environ.get("PATH_INFO", "")
    kept += ALWAYS.items()
    kept.append(("Content-Security-Policy", FRAMES))
    kind = said.get("content-type", "")
    if path.startswith("/artifacts/") and ("html" in kind or "xml" in kind):
        # Somebody's file; a browser would run what stands in it, as if it were ours.
        kept.append(("Content-Security-Policy", SANDBOX))
    if "cache-control" not in said:
        # The page's own program may be kept as long as it is the same.
        kept.append(("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store"))
    return kept
