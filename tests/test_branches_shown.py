"""Trunks and branches as people see them: in `show`, in tables, as a tree, as a chart, and in the cost."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from trials_by_hand import spec
from trials_by_hand import trial as by_hand

from lrsearch.analysis.material import Material
from lrsearch.events import TrialStarted
from lrsearch.report import branches, lines, tables, trace
from lrsearch.report.contents import contents
from lrsearch.report.cost import costs, finding
from lrsearch.report.document import markdown, to_json
from lrsearch.report.event_fields import fields
from lrsearch.report.html_page import html
from lrsearch.trial import Role, ScheduleConfig, State, Trial

FLAT = ScheduleConfig("constant")
SPEC = spec(space={"schedule": ["constant", "wsd", "step"]})


def trial(number: int, schedule: ScheduleConfig, parent: int | None = None, shared: int = 0) -> Trial:
    """Return a complete trial of ten epochs of a tenth of a second, the first ``shared`` of which took none."""
    made = by_hand(number, accuracy=0.8 + number / 100, schedule=schedule)
    rows = tuple(replace(row, seconds=0.0 if row.epoch <= shared else 0.1) for row in made.metrics)
    return replace(made, metrics=rows, parent=parent, shared_epochs=shared)


def wsd(decay: float) -> ScheduleConfig:
    return ScheduleConfig("wsd", final_fraction=0.01, decay_fraction=decay)


TREE = (
    trial(0, ScheduleConfig("linear", final_fraction=0.0)),
    trial(1, FLAT),
    trial(2, wsd(0.3), 1, 7),
    trial(3, wsd(0.5), 1, 5),
    trial(4, wsd(0.25), 2, 7),
    replace(trial(5, FLAT), role=Role.CONFIRM, parent=1),
)


def shown(trial: Trial) -> str:
    return printed(trace.render(trial, SPEC, 100), 100)


def printed(what: RenderableType, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_show_says_where_a_trial_goes_on_from() -> None:
    assert "goes on from trial 1 at epoch 7: the learning rates are the same so far" in shown(TREE[2])
    assert "goes on" not in shown(TREE[1])
    assert branches.sentence(TREE[5]) == ""  # it repeats, and is trained whole


def test_a_line_says_so_when_it_starts_and_json_has_both_numbers() -> None:
    event = TrialStarted(TREE[2], resumed=False)
    assert lines.line(event, 1.0, SPEC).endswith("(goes on from trial 1 at epoch 7)")
    assert {"parent": 1, "shared_epochs": 7}.items() <= fields(event, 1.0, SPEC, None).items()
    assert "parent" not in fields(TrialStarted(TREE[1], resumed=False), 1.0, SPEC, None)
    told = tables.trials_json(TREE, SPEC)["trials"]
    assert [(one["parent"], one["shared_epochs"]) for one in told] == [
        *((None, 0), (None, 0), (1, 7), (1, 5), (2, 7), (1, 0)),
    ]
    header, *rows = tables.trials_csv(TREE).splitlines()
    at = header.split(",").index("shared_epochs")
    assert [row.split(",")[at] for row in rows] == ["0", "0", "7", "5", "7", "0"]


def test_the_table_of_trials_has_a_column_where_there_are_branches() -> None:
    text = printed(tables.trials_table(TREE, SPEC), 160)
    assert "from" in text
    assert "1 at 7" in text
    assert "2 at 7" in text
    assert "from" not in printed(tables.trials_table(TREE[:2], SPEC), 160)


def test_the_tree_of_text_has_each_branch_below_its_trunk() -> None:
    assert branches.text_tree(TREE, SPEC).splitlines() == [
        "1: sgd 0.1 constant, 0.810",
        "├─ 2 at epoch 7: wsd to 0.01 of the peak over the last 30 %, 0.820",
        "│  └─ 4 at epoch 7: wsd to 0.01 of the peak over the last 25 %, 0.840",
        "└─ 3 at epoch 5: wsd to 0.01 of the peak over the last 50 %, 0.830",
    ]
    assert branches.text_tree(TREE[:2], SPEC) == ""


def test_the_chart_has_a_line_for_each_of_the_tree_that_begins_where_it_branches() -> None:
    (figure,) = branches.branches_figures(TREE, SPEC)
    assert figure.finding == (
        "3 of 6 trials go on from the state of another one: 19 of 60 epochs (32 %) were not trained again."
    )
    assert [(line["x"], line["y"]) for line in figure.data] == [
        ([0, 10], [0, 0]),
        ([7, 7, 10], [0, -1, -1]),
        ([7, 7, 10], [-1, -2, -2]),
        ([5, 5, 10], [0, -3, -3]),
    ]
    assert figure.layout["yaxis"]["ticktext"] == ["1", "2", "4", "3"]
    assert [row[:4] for row in figure.rows] == [
        ("1", "-", "-", "10"),
        ("2", "1", "7", "3"),
        ("4", "2", "7", "3"),
        ("3", "1", "5", "5"),
    ]
    assert branches.branches_figures(TREE[:2], SPEC) == ()


def test_every_form_of_the_report_has_it_and_only_where_there_is_a_branch() -> None:
    there, alone = (
        Material(SPEC, trials, SPEC.budget, "here", read_at=datetime(2026, 11, 29, tzinfo=UTC))
        for trials in (TREE, TREE[:2])
    )
    assert "branches" in [figure.key for figure in contents(there).others]
    assert "branches" not in [figure.key for figure in contents(alone).others]
    assert "### Trunks and branches" in markdown(there)
    assert "├─ 2 at epoch 7" in markdown(there)
    assert "Trunks" not in markdown(alone)
    assert to_json(there)["findings"]["branches"].startswith("3 of 6 trials")
    page = html(there)
    assert page.count('href="#branches"') == 1
    assert '<section id="branches">' in page
    assert 'href="#branches"' not in html(alone)
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])
    assert len(data["figures"]["branches"]["data"]) == 4


def test_what_is_shared_costs_once_and_is_said_to_be_saved() -> None:
    (cost,) = costs(TREE[:5])
    assert (cost.epochs, cost.epochs_shared, cost.epochs_saved) == (31, 19, 0)
    assert "31 epochs in" in finding((cost,))
    assert "Branching saved 19 epochs more." in finding((cost,))
    assert "Branching" not in finding(costs(TREE[:2]))


def test_a_branch_that_is_ended_early_saves_at_the_pace_of_its_own_epochs() -> None:
    early = replace(TREE[2], state=State.PRUNED, metrics=TREE[2].metrics[:8])
    (cost,) = costs([early])
    assert (cost.epochs, cost.epochs_saved) == (1, 2)
    assert round(cost.seconds_saved, 6) == 0.2
