"""Every chart of the report as a picture: drawn by a real browser, told in a sentence where there is none."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from browser import needs_chromium
from command_line import Finished, InProcess, one_line, run_python
from PIL import Image
from trials_by_hand import spec, trial

from lrsearch.analysis.material import Material
from lrsearch.report.chart_picture import ChartPicture, coloured, pictures
from lrsearch.report.contents import contents
from lrsearch.trial import ScheduleConfig, State, Trial

pytest_plugins = ["command_line"]

COSINE = ScheduleConfig("cosine", 0.1, 0.01)
EVIL = "a<b>&\x1b[31m\n"


def some() -> list[Trial]:
    return [
        trial(0, State.COMPLETE, 0.95, lr=0.1, schedule=COSINE, val_loss=0.2),
        trial(1, State.COMPLETE, 0.90, lr=0.01),
        trial(2, State.PRUNED, [0.3, 0.5], lr=0.001),
        trial(3, State.DIVERGED, 0.1, lr=2.0),
        trial(4, State.COMPLETE, 0.93, lr=0.003, optimizer="adamw", schedule=COSINE),
    ]


def made(*trials: Trial, name: str = "by-hand") -> dict[str, ChartPicture]:
    study = spec(name=name)
    said = contents(Material(study, trials, study.budget, "./lrsearch.db", read_at=datetime(2026, 11, 22, tzinfo=UTC)))
    return {one.name: one for one in pictures((*said.of_optimizers, *said.others), study, trials)}


def texts(value: object) -> list[str]:
    """Return all texts of a figure."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for one in inner for text in texts(one)]


def legend(picture: ChartPicture) -> list[str]:
    return [trace["name"] for trace in picture.figure["data"] if trace.get("showlegend", True)]


def test_every_chart_that_has_marks_is_a_picture() -> None:
    assert list(made(*some())) == ["lr-sgd", "lr-adamw", "loss", "schedule", "parallel", "cost"]
    assert list(made(trial(0, State.RUNNING, []))) == ["parallel"]
    assert made() == {}


def test_colours_are_those_of_the_page_in_the_light() -> None:
    for picture in made(*some()).values():
        assert not [text for text in texts(picture.figure) if text.startswith("@")]
    assert coloured({"a": ["@winner", "x"]}) == {"a": ["#b84a00", "x"]}


def test_a_picture_says_what_its_colours_and_marks_mean() -> None:
    drawn = made(*some())
    everything = {"constant", "cosine", "complete", "pruned", "diverged", "the winner"}
    assert set(legend(drawn["lr-sgd"])) == everything
    assert set(legend(drawn["loss"])) == {"complete", "pruned", "the winner"}
    assert legend(drawn["cost"]) == ["trained", "saved"]
    assert legend(drawn["schedule"]) == ["place 3: trial 1", "place 2: trial 4", "winner: trial 0"]
    assert "the best" in legend(drawn["parallel"])


def test_a_picture_has_its_title_its_finding_and_its_study() -> None:
    for key, picture in made(*some()).items():
        title = picture.figure["layout"]["title"]
        assert title["text"].startswith("<b>by-hand</b>  "), key
        assert title["subtitle"]["text"], key


def test_the_schedule_is_drawn_over_epochs() -> None:
    for trace in made(*some())["schedule"].figure["data"]:
        assert max(trace["x"]) == pytest.approx(10, abs=0.1)


def test_a_name_is_shown_as_it_is() -> None:
    study = spec().model_copy(update={"name": EVIL})
    said = contents(Material(study, tuple(some()), study.budget, "here", read_at=datetime(2026, 11, 22, tzinfo=UTC)))
    (one, *_) = pictures(said.of_optimizers, study, some())
    assert one.figure["layout"]["title"]["text"].startswith("<b>a&lt;b&gt;&amp;\\x1b[31m\\n</b>")


# Files


@needs_chromium
@pytest.mark.slow
def test_every_chart_is_written_as_png_and_as_svg(lrsearch: InProcess, finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    for form in ("png", "svg"):
        result = lrsearch("report", "digits", "-f", form, "-o", "charts")
        assert result.code == 0, result.err
        first, *rest = result.err.splitlines()
        files = sorted((tmp_path / "charts").glob(f"*.{form}"))
        assert re.fullmatch(rf"wrote {len(files)} charts to charts \([\d.]+ [kM]B\)", first)
        assert len(files) >= 5
        # Six trials are too few to say which parameters matter.
        assert rest == [line for line in rest if line.startswith("not drawn: Which parameters matter (Too few trials")]
    for path in (tmp_path / "charts").iterdir():
        assert path.name.startswith("digits-")
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.size[0] >= 2000
                assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20, "something is drawn"
                assert image.info["Software"].startswith("lrsearch report ")
            continue
        tree = ET.parse(path)
        words = " ".join("".join(element.itertext()) for element in tree.iter("{http://www.w3.org/2000/svg}text"))
        assert "digits" in words
        text = path.read_text("utf-8")
        assert not re.findall(r"https?://(?!www\.w3\.org)", text), "it asks for nothing"
    # What lrsearch has written it writes anew; what somebody else has, it does not.
    (tmp_path / "charts" / "digits-loss.svg").write_text("<svg>mine</svg>")
    refused = lrsearch("report", "digits", "-f", "svg", "-o", "charts")
    assert "digits-loss.svg exists and is no report of lrsearch" in one_line(refused)
    assert (tmp_path / "charts" / "digits-loss.svg").read_text() == "<svg>mine</svg>"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "x.png"], "every chart is a file of its own: name a folder with -o, and add --format png"),
        (["-o", "x.SVG"], "every chart is a file of its own: name a folder with -o, and add --format svg"),
        (["-f", "png", "-o", "-"], "every chart is a file of its own"),
        (["-f", "png", "-o", "nowhere/charts"], "nowhere/charts cannot be made: there is no folder nowhere"),
        (["-f", "svg", "-o", "lrsearch.db"], "lrsearch.db is no folder"),
    ],
)
def test_a_place_that_holds_no_charts_is_refused(
    arguments: list[str], said: str, lrsearch: InProcess, finished: Finished, tmp_path: Path
) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    result = lrsearch("report", "digits", *arguments)
    assert result.code == 2
    assert said in one_line(result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lrsearch.db"]


def test_a_study_without_trials_has_nothing_to_draw(lrsearch: InProcess) -> None:
    assert lrsearch("run", "--name", "bare", "--detach").code == 0
    result = lrsearch("report", "bare", "-f", "png")
    assert result.code == 3
    assert "there is nothing to draw of the study 'bare' yet" in one_line(result)


def test_a_machine_without_a_browser_is_told_what_to_install(
    lrsearch: InProcess, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    result = lrsearch("report", "digits", "-f", "svg", "--storage", str(finished.database))
    assert result.code == 2
    assert "drawn by Chrome or Chromium, and neither was found: install one (apt-get install chromium" in one_line(
        result
    )
    assert list(tmp_path.iterdir()) == []


def test_without_kaleido_its_extra_is_named(finished: Finished, tmp_path: Path) -> None:
    code = f"""
        import sys
        sys.modules["kaleido"] = None
        from lrsearch.cli.app import run
        sys.exit(run(["report", "-f", "png", "--storage", {str(finished.database)!r}]))
    """
    result = run_python(code, tmp_path)
    assert result.code == 2
    assert "pip install 'lrsearch[images]'" in one_line(result)
