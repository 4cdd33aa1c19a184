"""optuna-dashboard's page without the buttons that read-only mode refuses: by a stylesheet, the page stays its own."""

from collections.abc import Callable
from typing import Any

from bottle import Bottle, HTTPResponse, Route

PATH = "/lrsearch/read-only.css"
CHANGING_LABELS = ("delete study", "rename study", "delete artifact", "skip trial")
"""Names by which a screen reader knows a button that changes something."""
CHANGING_SIGNS = ("AddBoxIcon", "EditIcon", "ModeEditIcon", "SaveIcon", "UploadFileIcon", "DriveFileRenameOutlineIcon")
"""Signs on a button that changes something and has no such name."""

_BUTTONS = [f'button[aria-label="{label}"]' for label in CHANGING_LABELS]
_BUTTONS += [f'button:has([data-testid="{sign}"])' for sign in CHANGING_SIGNS]
STYLE = (
    ",\n".join(_BUTTONS)
    + """ { display: none !important; }
body::after { background: #1f2328; border-radius: .3rem; bottom: .8rem; color: #fff; content: "read-only";
  font: 14px system-ui, sans-serif; left: .8rem; opacity: .85; padding: .2rem .6rem; pointer-events: none;
  position: fixed; z-index: 2000; }
"""
)


class WithoutButtons:
    """A plugin of Bottle that has the page load our stylesheet."""

    name = "without-buttons"
    api = 2

    def apply(self, callback: Callable[..., Any], route: Route) -> Callable[..., Any]:
        """Return the callback of a route as it is to be called."""
        if not route.rule.startswith("/dashboard"):
            return callback

        def page(*args: Any, **kwargs: Any) -> Any:
            found = callback(*args, **kwargs)
            return _with_link(found) if isinstance(found, HTTPResponse) else found

        return page


def add(app: Bottle) -> None:
    """Add the plugin and its stylesheet."""

    def style() -> HTTPResponse:
        return HTTPResponse(STYLE, headers={"Content-Type": "text/css; charset=utf-8"})

    app.get(PATH, callback=style)
    app.install(WithoutButtons())


def _with_link(page: HTTPResponse) -> HTTPResponse:
    body = page.body
    if page.status_code != 200 or not hasattr(body, "read"):
        return page
    with body:
        text = body.read()
    if not isinstance(text, bytes) or b"</head>" not in text:
        page.body = text
        return page
    changed = text.replace(b"</head>", f'<link rel="stylesheet" href="{PATH}"></head>'.encode(), 1)
    page.body = changed
    page.set_header("Content-Length", str(len(changed)))
    return page
