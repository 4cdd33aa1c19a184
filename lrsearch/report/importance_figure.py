"""How much each parameter matters, over all trials that ended and over the complete ones only."""

from collections.abc import Sequence

from lrsearch.analysis.material import ImportanceRow, ImportanceTable, Material
from lrsearch.report import words
from lrsearch.report.figure import Figure, short
from lrsearch.text import counted

WORTH_NAMING = 0.01
"""A smaller share is not named, even where it beats chance."""
NAMED = 4
"""Parameters that are named in a sentence."""


def importance_figure(material: Material) -> Figure:
    """Return the share of each parameter twice, each with what chance alone would give."""
    ended, complete = material.of_ended, material.of_complete
    series = [
        (name, table, look)
        for name, table, look in (
            ("all that ended", ended, "bar-1"),
            ("complete only", complete, "bar-2"),
        )
        if table is not None and table.parameters
    ]
    first = ended if ended is not None and ended.parameters else complete
    rows = first.parameters if first is not None else ()
    names = [row.parameter for row in rows]
    data = []
    for name, table, look in series:
        known = {row.parameter: row for row in table.parameters}
        mine = [known.get(parameter) for parameter in names]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": names,
                "x": [short(row.share) if row else 0 for row in mine],
                # Hollow where chance would give as much.
                "marker": {
                    "color": [f"@{look}" if row and row.share > row.by_chance else "@hollow" for row in mine],
                    "line": {"color": f"@{look}", "width": 1.5},
                },
                "meta": {"kind": "bar"},
                "offsetgroup": name,
                "hovertemplate": f"%{{y}}, {name}: %{{x:.0%}}<extra></extra>",
            }
        )
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "orientation": "h",
                "y": names,
                "x": [short(min(row.by_chance, 1.0)) if row else None for row in mine],
                "marker": {
                    "symbol": "line-ns-open",
                    "size": 9,
                    "color": "@ink",
                    "line": {"width": 2.5, "color": "@ink"},
                },
                "offsetgroup": name,
                "meta": {"kind": "chance"},
                "hovertemplate": f"%{{y}}, {name}: chance gives up to %{{x:.0%}}<extra></extra>",
            }
        )
    return Figure(
        key="importance",
        title="Which parameters matter",
        finding=_finding(ended, complete),
        data=tuple(data),
        layout={
            "barmode": "group",
            "scattermode": "group",
            "xaxis": {"title": {"text": "share of all contributions"}, "tickformat": ".0%", "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        n_marks=len(series) * len(names),
        empty="" if series else _too_few(ended),
        header=("parameter", "all that ended", "chance", "trials", "complete only", "chance", "trials"),
        rows=_rows(names, ended, complete),
        note="PED-ANOVA asks in which parameters the best trials differ from all. Upright strokes: the largest "
        "contribution in 19 drawings in which the best were chosen at random; a bar that ends before its stroke is "
        "hollow, and no evidence. A parameter of one optimizer or one schedule is judged by the trials that have it."
        if series
        else "",
        keys=(*((look, name) for name, _, look in series), ("stroke", "chance")) if series else (),
        views={"bars": len(names)},
    )


def _rows(
    names: Sequence[str], ended: ImportanceTable | None, complete: ImportanceTable | None
) -> tuple[tuple[str, ...], ...]:
    tables = [{row.parameter: row for row in t.parameters} if t is not None else {} for t in (ended, complete)]
    return tuple((name, *(cell for known in tables for cell in _cells(known.get(name)))) for name in names)


def _cells(row: ImportanceRow | None) -> tuple[str, str, str]:
    if row is None:
        return (words.NOTHING,) * 3
    return f"{100 * row.share:.1f} %", f"{100 * row.by_chance:.1f} %", str(row.n_trials)


def _too_few(ended: ImportanceTable | None) -> str:
    if ended is None:
        return "Nobody has asked which parameters matter."
    return (
        f"Too few trials to say which parameters matter: {ended.n_trials} ended. It takes 20 of them, 5 complete, and "
        f"scores that differ; with fewer the shares are noise."
    )


def _finding(ended: ImportanceTable | None, complete: ImportanceTable | None) -> str:
    if ended is None or not ended.parameters:
        return ""
    clear = [row for row in ended.parameters if row.share > max(row.by_chance, WORTH_NAMING)]
    if clear:
        named = ", ".join(f"{row.parameter} ({100 * row.share:.0f} %)" for row in clear[:NAMED])
        more = f" and {len(clear) - NAMED} more" if len(clear) > NAMED else ""
        said = f"Above chance: {named}{more}."
    else:
        said = "No parameter stands out from chance."
    what = (
        f"Over {counted(ended.n_trials, 'trial')} that ended: what sets the best {ended.n_top} apart from all, where "
        f"pruned and diverged trials count as worse than every complete one."
    )
    if complete is None or not complete.parameters:
        n = complete.n_trials if complete is not None else 0
        return f"{said} {what} Over complete trials only: too few ({n}) to say."
    return (
        f"{said} {what} Over {counted(complete.n_trials, 'complete trial')} only: what sets the best {complete.n_top} "
        f"apart from the others that were trained through; what gets a trial ended early does not show there."
    )
