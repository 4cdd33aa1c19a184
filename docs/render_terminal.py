"""Draw the picture of the README: a real search on a real terminal, written as docs/images/run.svg.

    python docs/render_terminal.py [--trials 50] [--out docs/images/run.svg]

`lrsearch run --trials 50` runs in an empty folder on a pseudo-terminal of 100 columns. What it writes goes through a
small terminal below; the picture shows the live view in the middle of the search and what stands there at its end. The
PyTorch program is cut short, and says so. It needs pexpect, which `make test` installs.
"""

import argparse
import html
import io
import re
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pexpect
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

COLUMNS, ROWS = 100, 50
PART = 0.6
"""Of the budget, after which the live view is pictured."""
PROGRAM_LINES = 12
"""Of the PyTorch program, that are pictured."""

TOKENS = re.compile(r"\x1b\[(?P<args>[?0-9;]*)(?P<what>[A-Za-z])|(?P<text>[^\x1b])", re.DOTALL)


@dataclass
class Terminal:
    """As much of a terminal as rich needs: text, colours, a cursor that goes up, and lines that are erased."""

    lines: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    """Cells: the style and the character."""
    frames: list[list[str]] = field(default_factory=list)
    """The screen each time something was about to be erased: the frames of a live view."""
    row: int = 0
    column: int = 0
    style: str = ""
    drawn: bool = False

    def feed(self, text: str) -> None:
        """Take what a program writes."""
        for token in TOKENS.finditer(text):
            if token["text"] is not None:
                self._put(token["text"])
            else:
                self._control(token["what"], token["args"])

    def screen(self) -> list[str]:
        """Return the lines, with the escape codes of their colours."""
        return [_coded(cells) for cells in self.lines]

    def _put(self, character: str) -> None:
        match character:
            case "\n":
                self.row += 1
            case "\r":
                self.column = 0
            case _:
                line = self._line()
                line += [("", " ")] * (self.column + 1 - len(line))
                line[self.column] = (self.style, character)
                self.column += 1
                self.drawn = True

    def _control(self, what: str, args: str) -> None:
        match what:
            case "m":
                self.style = "" if args in ("", "0") else f"{self.style}\x1b[{args}m"
            case "A":
                self.row = max(self.row - int(args or 1), 0)
            case "K":
                if self.drawn:
                    self.frames.append(self.screen())
                    self.drawn = False
                self._line().clear()
            case "h" | "l":
                pass  # the cursor is shown or hidden
            case _:
                raise SystemExit(f"the terminal of docs/render_terminal.py does not know ESC [ {args} {what}")

    def _line(self) -> list[tuple[str, str]]:
        while self.row >= len(self.lines):
            self.lines.append([])
        return self.lines[self.row]


def _coded(cells: list[tuple[str, str]]) -> str:
    """Return a line with one escape code for every run of cells that look the same."""
    runs = [(style, "".join(text for _, text in run)) for style, run in groupby(cells, key=lambda cell: cell[0])]
    if runs and not runs[-1][1].strip():
        runs.pop()
    return "".join(f"{style}{text}\x1b[0m" if style else text for style, text in runs).rstrip()


def run(trials: int) -> Terminal:
    """Run the search and return the terminal that it ran on."""
    terminal = Terminal()
    with tempfile.TemporaryDirectory() as folder:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "lrsearch", "run", "--trials", str(trials)],
            cwd=folder,
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            timeout=300,
        )
        while True:
            try:
                terminal.feed(child.read_nonblocking(4096))
            except pexpect.EOF:
                break
        child.close()
    if child.exitstatus != 0:
        raise SystemExit("\n".join(terminal.screen()) + f"\nlrsearch run ended with {child.exitstatus}")
    return terminal


def picture(terminal: Terminal, trials: int) -> list[str]:
    """Return the lines of the picture."""
    live = [frame for frame in terminal.frames if _finished(frame, trials) >= PART * trials and _under_way(frame)]
    end = terminal.screen()
    begin = next(i for i, line in enumerate(end) if _plain([line]) == "In PyTorch") + 1
    stop = next(i for i, line in enumerate(end) if _plain([line]) == "Next")
    program = end[begin:stop]
    while not program[-1].strip():
        program.pop()
    cut = f"\x1b[2m... {len(program) - PROGRAM_LINES} more lines of the program\x1b[0m"
    prompt = f"\x1b[2m$\x1b[0m \x1b[1mlrsearch run --trials {trials}\x1b[0m"
    when = "\x1b[2m... the view moves on, and when the budget is used up:\x1b[0m"
    shown = [*end[:begin], *program[:PROGRAM_LINES], cut, "", *end[stop:]]
    while not shown[-1].strip():
        shown.pop()
    while not shown[0].strip():
        del shown[0]
    return [prompt, *_stripped(live[0]), "", when, *shown]


def _stripped(frame: list[str]) -> list[str]:
    begin = max((i for i, line in enumerate(frame) if not line.strip()), default=-1) + 1
    return frame[begin:] if begin < len(frame) else [line for line in frame if line.strip()]


def _plain(frame: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(frame))


def _finished(frame: list[str], trials: int) -> int:
    found = re.search(rf"(\d+)/{trials}\b", _plain(frame))
    return int(found[1]) if found else -1


def _under_way(frame: list[str]) -> bool:
    """Whether the trial in the view has some epochs of losses to show."""
    return re.search(r"epoch [4-9]/10 ", _plain(frame)) is not None


def svg(lines: list[str], title: str) -> str:
    """Return the lines as a picture that loads nothing from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    # rich's own format fetches its font over the network.
    offline = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    offline = offline.replace("Fira Code, monospace", "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace")
    return _spaced(console.export_svg(title=title, code_format=offline, unique_id="run"))


def _spaced(text: str) -> str:
    """Place every word by its column: renderers differ in what they do with spaces at the ends and in a row."""

    def place(found: re.Match[str]) -> str:
        characters, x, length = html.unescape(found["text"]), float(found["x"]), float(found["length"])
        width = length / len(characters)
        return "".join(
            f'<text class="{found["style"]}" x="{x + word.start() * width:g}" y="{found["y"]}" '
            f'textLength="{len(word[0]) * width:g}" clip-path="{found["clip"]}">{html.escape(word[0])}</text>'
            for word in re.finditer(r"[^\xa0]+(\xa0[^\xa0]+)*", characters)
        )

    pattern = (
        r'<text class="(?P<style>[^"]+)" x="(?P<x>[^"]+)" y="(?P<y>[^"]+)" textLength="(?P<length>[^"]+)" '
        r'clip-path="(?P<clip>[^"]+)">(?P<text>[^<]+)</text>'
    )
    return re.sub(pattern, place, text)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "images" / "run.svg")
    options = parser.parse_args()
    text = svg(picture(run(options.trials), options.trials), f"lrsearch run --trials {options.trials}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, "utf-8")
    print(f"wrote {options.out.name}, {len(text) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
