"""Two studies or two trials side by side as one HTML page that needs nothing outside itself."""

from markupsafe import Markup

from lrsearch.analysis.compare import Comparison
from lrsearch.report.compare_figure import comparison_figure
from lrsearch.report.compare_table import cost_rows, differing, labels, not_known, score_rows, who
from lrsearch.report.html_page import embedded, part, plotly_script, policy, templates
from lrsearch.version import __version__

GENERATOR = "lrsearch compare"


def compare_page(found: Comparison) -> str:
    """Return the page."""
    script, plotly = part("compare.js"), plotly_script()
    return (
        templates()
        .get_template("compare.html")
        .render(
            labels=labels(found),
            who=who(found),
            studies=differing(found.studies),
            settings=differing(found.settings),
            scores=score_rows(found),
            cost=cost_rows(found),
            not_known=not_known(found),
            generator=f"{GENERATOR} {__version__}",
            policy=policy((plotly, script)),
            style=Markup(part("report.css")),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            data=embedded(comparison_figure(found)),
            version=__version__,
        )
    )
