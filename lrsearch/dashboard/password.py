"""The password of the dashboard: where it comes from, and whether one that came is it."""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import stat
from pathlib import Path

from lrsearch.errors import UsageError

log = logging.getLogger(__name__)

VARIABLE = "LRSEARCH_DASHBOARD_PASSWORD"
SHORTEST = 12
"""[characters]"""
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one"


class Password:
    """A password that can be compared and not be shown."""

    def __init__(self, text: str) -> None:
        self._digest = _digest(text.encode())

    def admits(self, authorization: str) -> bool:
        """Whether the header is ``Basic`` with it, under any user name, or ``Bearer`` with it; in constant time."""
        scheme, _, given = authorization.partition(" ")
        match scheme.lower():
            case "basic":
                try:
                    _, _, word = base64.b64decode(given.strip(), validate=True).partition(b":")
                except binascii.Error:
                    return False
            case "bearer":
                # WSGI's text is bytes, one a character.
                word = given.strip().encode("latin-1", "replace")
            case _:
                return False
        return hmac.compare_digest(_digest(word), self._digest)


def configured(file: Path | None) -> Password | None:
    """Return the password that the file holds, else that of the environment, else None.

    Raises:
        UsageError: the file cannot be read or does not hold one line, or the password is too short.
    """
    if file is None:
        # Taken out: no process that is started from here needs to know it.
        text = os.environ.pop(VARIABLE, None)
        return None if text is None else _checked(text, VARIABLE)
    try:
        text = file.read_text("utf-8").rstrip("\r\n")
        advice = _advice(file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--password-file {file}: the file with the password cannot be read: {why}") from None
    if advice is not None:
        log.warning("%s can be read by other users of this machine: %s", file, advice)
    return _checked(text, f"--password-file {file}")


def _advice(file: Path) -> str | None:
    """Return how to keep a file from other users; None where it is kept, or nobody here could change it.

    A file of another owner is given by its group, as PostgreSQL has it for keys. What a container is given lies on a
    read-only mount, with the mode that it needs there.
    """
    if os.name != "posix" or os.statvfs(file).f_flag & os.ST_RDONLY:
        return None
    status = file.stat()
    if status.st_uid == os.geteuid():
        return "chmod 600 it" if status.st_mode & (stat.S_IRGRP | stat.S_IROTH) else None
    return "let its owner chmod 640 it" if status.st_mode & stat.S_IROTH else None


def _checked(text: str, where: str) -> Password:
    if "\n" in text or text.strip() != text:
        raise UsageError(f"{where} must hold one line, the password, without spaces around it")
    if len(text) < SHORTEST:
        raise UsageError(
            f"the password of the dashboard must have at least {SHORTEST} characters, {where} has {len(text)}; "
            f"{MAKE_ONE}"
        )
    return Password(text)


def _digest(word: bytes) -> bytes:
    return hashlib.sha256(word).digest()
