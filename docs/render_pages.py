"""Draw the second picture of the README: the report of a real search, in Chromium, written as docs/images/report.png.

    python docs/render_pages.py [--trials 50] [--out docs/images/report.png]

`lrsearch run --trials 50` and `lrsearch report` run in an empty folder; the picture shows the answer and the chart of
accuracy against learning rate, one over the other. It needs Chromium (`apt-get install chromium`) and Playwright,
which `make test` installs.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from browser import chromium, looking

WIDTH = 1100
"""[pixels]"""
PARTS = ("header", "#answer h2", "#answer dl", "#rates")
GAP = 16
"""Between two parts [pixels]."""


def report(folder: Path, trials: int) -> Path:
    """Search, write the report, and return where it is."""
    page = folder / "digits.html"
    for words in (["run", "--trials", str(trials), "--quiet"], ["report", "digits", "-o", str(page)]):
        subprocess.run([sys.executable, "-m", "lrsearch", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return page


def picture(page: Path) -> Image.Image:
    """Return the parts of the page one below the other, in light colours."""
    with (
        chromium() as browser,
        looking(browser, viewport={"width": WIDTH, "height": 900}, color_scheme="light") as seen,
    ):
        seen.page.goto(page.as_uri())
        seen.page.wait_for_function("document.querySelectorAll('#rates .points path').length > 0")
        found = [seen.page.locator(part).first for part in PARTS]
        shots = [(part.bounding_box(), Image.open(io.BytesIO(part.screenshot()))) for part in found]
    whole = Image.new("RGB", (WIDTH, sum(shot.height + GAP for _, shot in shots)), "white")
    top = 0
    for box, shot in shots:
        whole.paste(shot, (round(box["x"]) if box else 0, top))
        top += shot.height + GAP
    return whole


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "report.png")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture(report(Path(folder), given.trials)).save(given.out, optimize=True)
    print(f"wrote {given.out}: {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
