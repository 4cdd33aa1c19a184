"""Run the notebook of the documentation: what its cells show goes to docs/notebooks/pictures.md, its look to a picture.

    python docs/render_notebook.py [--lab jupyter-lab] [--only page|picture]

The page is what a kernel of this Python answers. The picture, docs/images/notebook.png, is the notebook in JupyterLab
(`pip install jupyterlab`, in an environment of its own if you like), in Chromium: the live view in the midst of the
search, and the answer below it. It needs Chromium (`apt-get install chromium`), and what `make test` installs.
"""

import argparse
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from browser import Page, chromium, looking

DOCS = Path(__file__).resolve().parent
NOTEBOOK = DOCS / "notebooks" / "pictures.py"
HEAD = (
    "<!-- made by docs/render_notebook.py of pictures.py: change that one -->\n\n"
    "A notebook in the [percent format](https://jupytext.readthedocs.io/en/latest/formats-scripts.html), "
    "[pictures.py](pictures.py), and what its cells show.\n\n"
)
SECONDS = 600
"""For the whole notebook."""
PART = 0.5
"""Of the trials, after which the live view is pictured."""
SETTINGS = {
    # All cells stay in the page, or those out of sight could not be pictured.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
"""Of JupyterLab."""
WIDTH, HEIGHT = 1000, 1600
"""Of the window [pixels]."""


def page(folder: Path) -> str:
    """Run the notebook and return it as a page."""
    notebook = jupytext.read(NOTEBOOK)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where).execute()
    return HEAD + "\n".join(_shown(cell) for cell in notebook.cells)


def _shown(cell: Any) -> str:
    if cell.cell_type == "markdown":
        return f"{cell.source}\n"
    outputs = "\n".join(filter(None, (_text(one) for one in cell.outputs)))
    return f"```py\n{cell.source}\n```\n" + (f"\n```text\n{outputs}\n```\n" if outputs else "")


def _text(output: Any) -> str:
    text = output.text if output.output_type == "stream" else output.data["text/plain"]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


@contextmanager
def lab(program: str, folder: Path) -> Iterator[str]:
    """Run JupyterLab in a folder, with this Python as its kernel; give its address."""
    home = folder / "jupyter"
    kernel = home / "kernels" / "python3"
    kernel.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "Python 3", "language": "python"}))
    for name, setting in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    token, log = secrets.token_hex(8), folder / "lab.log"
    environment = os.environ | {"JUPYTER_PATH": str(home), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}
    with log.open("w") as out:
        server = subprocess.Popen(  # noqa: S603 - our own
            [
                program,
                "--no-browser",
                "--allow-root",
                "--port=0",
                f"--IdentityProvider.token={token}",
                f"--ServerApp.root_dir={folder}",
            ],
            env=environment,
            stdout=out,
            stderr=out,
            cwd=folder,
        )
    try:
        yield f"{_address(server, log)}/doc/tree/pictures.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait()


def _address(server: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab", log.read_text("utf-8")):
            return found[1]
        time.sleep(0.2)
    raise SystemExit(f"JupyterLab does not start:\n{log.read_text('utf-8')}")


def picture(program: str, folder: Path) -> Image.Image:
    """Return the live view and the answer, as JupyterLab shows them."""
    notebook = jupytext.read(NOTEBOOK)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "pictures.ipynb")
    sources = [cell.source for cell in notebook.cells]
    search = next(i for i, source in enumerate(sources) if source.startswith("study = lrsearch.search"))
    trials = int(re.findall(r"trials=(\d+)", sources[search])[0])
    with lab(program, folder) as address, chromium() as browser:
        view = {"viewport": {"width": WIDTH, "height": HEIGHT}, "color_scheme": "light"}
        with looking(browser, **view) as seen:
            sheet = seen.page
            sheet.goto(address)
            sheet.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
            sheet.keyboard.press("Control+b")  # puts the folders at the left away
            _run_all(sheet)
            some = "|".join(str(n) for n in range(round(PART * trials), trials))
            _wait(sheet, search, rf"\b({some}) of {trials} trials[^]*epoch [3-9]/")
            shots = [_shot(sheet, search)]
            _wait(sheet, search + 1, "Too high, too low")
            shots.append(_shot(sheet, search + 1))
    whole = Image.new("RGB", (max(shot.width for shot in shots), sum(shot.height for shot in shots)), "white")
    top = 0
    for shot in shots:
        whole.paste(shot, (0, top))
        top += shot.height
    return whole


def _run_all(sheet: Page) -> None:
    sheet.get_by_role("menuitem", name="Run", exact=True).first.click()
    sheet.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def _wait(sheet: Page, number: int, words: str) -> None:
    """Wait until a cell shows something that a regular expression of JavaScript finds."""
    says = "([number, words]) => new RegExp(words).test(document.querySelectorAll('.jp-Cell')[number]?.innerText)"
    sheet.wait_for_function(says, arg=[number, words], timeout=SECONDS * 1000, polling=50)


def _shot(sheet: Page, number: int) -> Image.Image:
    return Image.open(io.BytesIO(sheet.locator(".jp-Cell").nth(number).screenshot())).convert("RGB")


def main() -> None:
    """Write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lab", default=shutil.which("jupyter-lab"), help="the program jupyter-lab")
    parser.add_argument("--only", choices=("page", "picture"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LRSEARCH_CACHE"] = folder
        if given.only != "picture":
            out = NOTEBOOK.with_suffix(".md")
            (Path(folder) / "page").mkdir()
            out.write_text(page(Path(folder) / "page"), "utf-8")
            print(f"wrote {out}")
        if given.only != "page":
            if given.lab is None:
                raise SystemExit("there is no jupyter-lab on the path: pip install jupyterlab, or name one with --lab")
            out = DOCS / "images" / "notebook.png"
            (Path(folder) / "lab").mkdir()
            picture(given.lab, Path(folder) / "lab").save(out, optimize=True)
            print(f"wrote {out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
