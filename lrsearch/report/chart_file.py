"""Charts as PNG or SVG, drawn by plotly.js in a browser of this machine that nobody sees, and that asks for nothing."""

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from lrsearch.errors import LrsearchError, UsageError
from lrsearch.report.chart_picture import ChartPicture
from lrsearch.report.text_file import write_bytes
from lrsearch.version import __version__

ImageForm = Literal["png", "svg"]

SCALES: Final[Mapping[ImageForm, int]] = {"png": 2, "svg": 1}
"""Pixels of a picture for one of the chart, so that a PNG is sharp in print and on screens of high resolution."""
MADE_BY: Final = "lrsearch report"
"""Stands in the head of every file, so that it may be written anew."""


def write_pictures(pictures: Sequence[tuple[Path, ChartPicture]], form: ImageForm) -> None:
    """Draw pictures into files.

    Raises:
        UsageError: what draws them is not installed, or a file cannot be written.
        LrsearchError: the browser did not draw them.
    """
    for (path, _), content in zip(pictures, drawn([one for _, one in pictures], form), strict=True):
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, content)


def drawn(pictures: Sequence[ChartPicture], form: ImageForm) -> list[bytes]:
    """Return pictures as they stand in a file.

    Raises:
        UsageError, LrsearchError: as ``write_pictures``.
    """
    kaleido, not_found = _kaleido()
    page = kaleido.PageGenerator(plotly=_plotly().as_uri(), mathjax=False)  # which it would ask a server for
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.{form}" for number in range(len(pictures))]
        wanted = [
            {
                "fig": {"data": one.figure["data"], "layout": one.figure["layout"]},
                "path": str(file),
                "opts": {"format": form, "width": one.width, "height": one.height, "scale": SCALES[form]},
            }
            for one, file in zip(pictures, files, strict=True)
        ]
        try:
            kaleido.write_fig_from_object_sync(wanted, kopts={"page_generator": page}, cancel_on_error=True)
        except not_found as error:
            raise UsageError(
                f"charts as {form.upper()} are drawn by Chrome or Chromium, and neither was found: install one "
                f"(apt-get install chromium, or kaleido_get_chrome), or name it in the variable BROWSER_PATH"
            ) from error
        except Exception as error:  # of the browser, of the pipe to it, of plotly.js
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise LrsearchError(
                f"the browser did not draw the charts ({said}): name another one in the variable BROWSER_PATH, or "
                f"write the report as HTML, which needs none"
            ) from error
        return [_signed(file.read_bytes(), form) for file in files]


def _kaleido() -> tuple[Any, type[Exception]]:
    try:
        import kaleido
        import logistro
        from choreographer.errors import ChromeNotFoundError
    except ImportError as error:
        raise UsageError(
            "charts as PNG or SVG are drawn by the package kaleido, which is not installed: pip install "
            "'lrsearch[images]'"
        ) from error
    logistro.getLogger().setLevel("ERROR")
    return kaleido, ChromeNotFoundError


def _plotly() -> Path:
    found = find_spec("plotly")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("package_data") / "plotly.min.js"


def _signed(content: bytes, form: ImageForm) -> bytes:
    """Return the file with a note of who made it, near its beginning."""
    note = f"{MADE_BY} {__version__}"
    if form == "svg":
        head, bracket, rest = content.partition(b">")
        return head + bracket + f"<!-- {note} -->".encode() + rest
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about, out = PngInfo(), io.BytesIO()
    about.add_text("Software", note)
    Image.open(io.BytesIO(content)).save(out, "PNG", pnginfo=about)
    return out.getvalue()
