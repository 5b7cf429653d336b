"""Pages by address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from eto.errors import EtoError, InputError
from eto.viewer import pages
from eto.viewer.guard import Guard
from eto.viewer.library import Library, Shown
from eto.viewer.look import links_of
from eto.viewer.look import templates as page_templates

HERE = Path(__file__).parent


def build_app(roots: Iterable[Path], hosts: Iterable[str] = ()) -> Starlette:
    """A web application that shows the runs below `roots`. hosts: names it answers to, besides those of this
    machine. Raises `InputError` for a directory that is not there."""
    library, templates = Library(roots), page_templates()

    def page(template: str, make: Callable[[Request], Mapping[str, Any]]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            try:
                values, status = {**make(request)}, 200
                name = template
            except EtoError as error:
                values, status, name = {"fault": str(error)}, 404, "fault.html"
            run = request.path_params.get("run")
            common: dict[str, Any] = {"path": request.url.path, "link": links_of(run or ""), "most": None}
            if run is not None:
                common |= {"run": run, "base": f"/run/{quote(run)}/-"}
            return HTMLResponse(templates.get_template(name).render(**common, **values), status)

        return endpoint

    def run_of(request: Request) -> Shown:
        return library.run(request.path_params["run"])

    def episode_pair(request: Request) -> Mapping[str, Any]:
        return pages.compared_page(run_of(request), _number(request, "left"), _number(request, "right"))

    def changes(request: Request) -> Mapping[str, Any]:
        asked = request.query_params
        return pages.changes_of(
            run_of(request), asked.get("split", ""), asked.get("agent", ""), asked.get("against", "")
        )

    def pair(request: Request) -> Mapping[str, Any]:
        return pages.pair_page(run_of(request), request.path_params["round"], _number(request, "place"))

    def task(request: Request) -> Mapping[str, Any]:
        name = request.query_params.get("id", "")
        return {"task": name, "entries": pages.task_entries(run_of(request).index.entries(), name)}

    routes = [
        Route("/", page("runs.html", lambda request: pages.runs_page(library))),
        Route("/run/{run:path}/-/changes", page("changes.html", changes)),
        Route(
            "/run/{run:path}/-/episodes",
            page("episodes.html", lambda request: pages.episodes_page(run_of(request), request.query_params)),
        ),
        Route(
            "/run/{run:path}/-/episode/{row}",
            page("episode.html", lambda r: pages.episode_page(run_of(r), _number(r, "row"))),
        ),
        Route(
            "/run/{run:path}/-/tokens/{row}",
            page("tokens.html", lambda r: pages.tokens_page(run_of(r), _number(r, "row"))),
        ),
        Route("/run/{run:path}/-/beside/{left}/{right}", page("beside.html", episode_pair)),
        Route("/run/{run:path}/-/task", page("task.html", task)),
        Route(
            "/run/{run:path}/-/pairs/{round}",
            page("pairs.html", lambda r: pages.pairs_page(run_of(r), r.path_params["round"])),
        ),
        Route("/run/{run:path}/-/pair/{round}/{place}", page("pair.html", pair)),
        Route("/run/{run:path}", page("run.html", lambda request: pages.run_page(run_of(request)))),
        Route("/favicon.ico", lambda request: RedirectResponse("/static/icon.svg")),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=tuple(hosts))])


def _number(request: Request, name: str) -> int:
    if (found := pages.whole_number(request.path_params[name])) is None:
        hint = "go back to the run"
        raise InputError("there is no such page", where=request.url.path, hint=hint)
    return found
