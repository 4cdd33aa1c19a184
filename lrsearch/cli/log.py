"""Warnings of the package as sentences on stderr; tracebacks only where they are asked for."""

import logging
import sys
from typing import TextIO


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at the moment: the live view takes its place while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        pass


class _Sentence(logging.Formatter):
    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("lrsearch: %(message)s")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks and record.exc_info:
            error = record.exc_info[1]
            record = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {error}", None
        return super().format(record)


def install(*, tracebacks: bool) -> None:
    """Have the package's own log written to stderr, warnings and worse."""
    log = logging.getLogger("lrsearch")
    for old in [h for h in log.handlers if isinstance(h, _Stderr)]:
        log.removeHandler(old)
    handler = _Stderr()
    handler.setFormatter(_Sentence(tracebacks=tracebacks))
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
