"""The page: three files in the folder `web`, sent as they are. Nothing is fetched from anywhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "web"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def _file(name: str) -> Route:
    def send(_: Request) -> Response:
        path = _FOLDER / name
        return Response(path.read_bytes(), media_type=_KINDS[path.suffix], headers=_HEADERS)

    return Route("/" if name == "index.html" else f"/page/{name}", send)


def _no_icon(_: Request) -> Response:
    return Response(status_code=204)


ROUTES = [*map(_file, ("index.html", "style.css", "page.js")), Route("/favicon.ico", _no_icon)]
"""The page at `/`, and its files."""
