"""What the page of a review can ask for, and where each request goes."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from importlib.resources import files as resources
from typing import Annotated, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import Response

from holotype.pool.limits import limits
from holotype.review.access import Access
from holotype.review.background import Background
from holotype.review.guard import SEARCH, Guard
from holotype.review.queries import ANSWERS_PER_REFIT
from holotype.review.review import Review
from holotype.review.session import (
    MOST,
    AnswersBody,
    CertifyBody,
    DescribeBody,
    EmptyBody,
    Label,
    PageSize,
    Phrase,
    Row,
    Session,
    Size,
    UndoBody,
    WithdrawBody,
)
from holotype.runs.report.template import templates
from holotype.web.connections import CONNECTIONS
from holotype.web.responses import Json, explain_errors
from holotype.web.shared import Shared

SERVED = {
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript"
        for name in (
            "main",
            "session",
            "server",
            "pictures",
            "one",
            "pages",
            "sheet",
            "cell",
            "choose",
            "following",
            "menu",
            "selection",
            "map",
            "plot",
            "gestures",
            "selected",
            "around",
            "drops",
            "gallery",
            "viewer",
            "status",
            "exemplars",
            "applying",
            "certify",
            "discover",
            "names",
            "words",
            "described",
        )
    },
}

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
PICTURE_CACHE = "private, max-age=31536000, immutable"


def create_app(review: Review, *, port: int, who: str = "") -> FastAPI:
    """Return the page's application, for a server on 127.0.0.1 at `port`. `who` is recorded with each answer.

    Its `state.access` has the address, with the token, that opens the page.
    """
    session = Session(review, who)

    @asynccontextmanager
    async def until_closed(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_sync(session.atlas.stop)

    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        redirect_slashes=False,
        lifespan=until_closed,
    )
    app.state.session = session
    access = app.state.access = Access(port)
    app.add_middleware(Guard, access=access)
    explain_errors(app)
    _add_files(app, session)
    _add_pictures(app, session)
    _add_questions(app, session)
    _add_results(app, session)
    _add_neighbours(app, session)
    _add_words(app, session)
    _add_map(app, session)
    return app


def _add_files(app: FastAPI, session: Session) -> None:
    here = resources("holotype.review") / "static"
    content = {name: (here / name).read_bytes() for name in SERVED}
    page = _page(session)

    @app.get("/")
    async def top() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in content:
            raise HTTPException(404, "there is no such file")
        return Response(content[name], media_type=SERVED[name])


def _page(session: Session) -> str:
    given = {
        "classes": session.review.classes,
        "nonce": session.nonce,
        "batch": ANSWERS_PER_REFIT,
        "most": limits().size,
        "modules": [name for name, kind in SERVED.items() if kind == "text/javascript"],  # fetched at once, not in turn
    }
    template = templates("holotype.review").get_template("page.html.j2")
    return template.render(given, out=session.review.out, report=session.review.folder.report)


def _add_pictures(app: FastAPI, session: Session) -> None:
    def jpeg(picture: bytes) -> Response:
        return Response(picture, media_type="image/jpeg", headers={"cache-control": PICTURE_CACHE})

    at_once = CapacityLimiter(os.cpu_count() or 1)  # so many are decoded at once, and no answer waits for them

    @app.get("/image/{row}/{size}")
    async def image(row: Row, size: Size, v: str) -> Response:
        picture = session.kept_picture(row, size, v)  # which needs no thread
        if picture is None:
            picture = await run_sync(session.picture, row, size, v, limiter=at_once)
        return jpeg(picture)

    @app.get("/api/path")
    async def path(row: Row) -> Response:
        return Json({"path": session.path(row)})

    @app.get("/exemplar/{number}/{size}")
    async def exemplar(number: Row, size: Size, v: str, name: str) -> Response:
        return jpeg(await run_sync(session.exemplar_picture, number, size, v, name, limiter=at_once))


def _add_questions(app: FastAPI, session: Session) -> None:
    @app.get("/api/questions")
    def questions(label: Label, n: PageSize, exclude: str = "", passed: str = "", *, page: bool = False) -> Response:
        out, over = _rows("exclude", exclude), _rows("passed", passed)
        return Json({"questions": session.questions(label, n, out, over, page=page)})

    acts = CapacityLimiter(CONNECTIONS)  # threads of their own, which wait for the disk most of the time

    async def done(action: Callable[[], bool | None]) -> Response:
        def both() -> dict[str, bool | str | None]:
            return {"undone": action(), "version": session.version}

        return Json(await run_sync(both, limiter=acts))

    @app.post("/api/answers")
    async def answers(body: AnswersBody) -> Response:
        return await done(lambda: session.answer(body))

    @app.post("/api/withdraw")
    async def withdraw(body: WithdrawBody) -> Response:
        return await done(lambda: session.withdraw(body))

    @app.post("/api/undo")
    async def undo(body: UndoBody) -> Response:
        return await done(lambda: session.undo(body.act))

    learn = Shared(session.learn)

    @app.post("/api/refit")
    async def refit(body: EmptyBody) -> Response:  # noqa: ARG001 - checked to be empty
        await learn()
        return Json({"version": await run_sync(lambda: session.version)})


def _rows(name: str, text: str, most: int = 10 * MOST) -> list[int]:
    """Read at most `most` rows with commas between."""
    parts = text.split(",") if text else []
    if len(parts) > most or not all(part.isascii() and part.isdecimal() and len(part) < 11 for part in parts):
        raise HTTPException(422, f"{name}: expected at most {most} rows with commas between")
    return [int(part) for part in parts]


def _add_results(app: FastAPI, session: Session) -> None:
    review = session.review

    @app.get("/api/state")
    def state(label: Label, *, wait: bool = True) -> Response:
        return Json(session.state(label, wait=wait))

    @app.get("/api/version")
    def version() -> Response:
        return Json({"version": session.version, "nonce": session.nonce})

    @app.get("/api/gallery")
    def gallery(
        label: Label,
        part: Literal["found", "doubtful", "rejected"],
        sort: Literal["best", "worst"] = "best",
        text: Annotated[str, Query(max_length=1000)] = "",
        answered: bool | None = None,
        start: Row = 0,
        count: PageSize = 60,
    ) -> Response:
        session.check_label(label)
        items, total = review.gallery(label, part, sort=sort, text=text, answered=answered, start=start, count=count)
        return Json({"items": [asdict(item) for item in items], "total": total})

    _add_work(app, "/api/apply", session.applying)
    _add_work(app, "/api/discover", session.discovering)

    @app.post("/api/certify")
    def certify(body: CertifyBody) -> Response:
        return Json(session.certify(body), 202)

    @app.get("/api/certify")
    def certified() -> Response:
        return Json(session.certifying.to_json())

    @app.get("/report")
    def report() -> Response:
        with suppress(OSError):
            content = (review.folder.report).read_bytes()
            return Response(content, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
        raise HTTPException(404, "there is no report yet; apply the answers first")

    @app.get("/found.csv")
    def found() -> Response:
        with review.folder.reading(), suppress(OSError):
            return _download("found.csv", "text/csv", review.folder.found.read_bytes())
        raise HTTPException(404, "there is no table of what was found yet; apply the answers first")

    @app.get("/answers.csv")
    def answers_csv() -> Response:
        return _download("answers.csv", "text/csv", review.answers_as("csv"))

    @app.get("/label-studio.json")
    def answers_tasks() -> Response:
        return _download("label-studio.json", "application/json", review.answers_as("tasks"))


def _add_work(app: FastAPI, path: str, work: Background) -> None:
    """Let a request start what goes on in the background, and another ask how far it is."""

    @app.post(path)
    def start(body: EmptyBody) -> Response:  # noqa: ARG001 - checked to be empty
        work.start()
        return Json(work.to_json(), 202)

    @app.get(path)
    def progress() -> Response:
        return Json(work.to_json())


def _add_neighbours(app: FastAPI, session: Session) -> None:
    @app.get("/api/around")
    def around(label: Label, row: Row, n: PageSize, start: Row = 0) -> Response:
        return Json(session.around(row, label, n, start))

    @app.post(SEARCH)  # one at a time, which the guard sees to
    async def search(request: Request, label: Label, n: PageSize, start: Row = 0) -> Response:
        picture = await request.body()
        return Json(await run_sync(session.search, picture, label, n, start))


def _add_words(app: FastAPI, session: Session) -> None:
    few = CapacityLimiter(2)  # a search may wait for a text tower to be loaded, and no other request for that

    _add_work(app, "/api/words", session.words)

    @app.get("/api/words/images")
    async def images(label: Label, text: Phrase, n: PageSize, start: Row = 0) -> Response:
        return Json(await run_sync(session.find, text, label, n, start, limiter=few))

    async def changed(change: Callable[[DescribeBody], None], body: DescribeBody) -> Response:
        def both() -> dict[str, str]:
            change(body)
            return {"version": session.version}

        return Json(await run_sync(both, limiter=few))

    @app.post("/api/describe")
    async def describe(body: DescribeBody) -> Response:
        return await changed(session.describe, body)

    @app.post("/api/undescribe")
    async def undescribe(body: DescribeBody) -> Response:
        return await changed(session.undescribe, body)


def _add_map(app: FastAPI, session: Session) -> None:
    atlas = session.atlas

    _add_work(app, "/api/map", atlas)

    @app.get("/api/map/points")
    def points(start: Row = 0) -> Response:
        return Json(atlas.points(start))

    @app.get("/api/map/states")
    def states(label: Label) -> Response:
        session.check_label(label)
        return Json(atlas.states(label))

    @app.get("/api/images")
    def images(label: Label, rows: str) -> Response:
        return Json({"images": session.images(label, _rows("rows", rows, MOST))})


def _download(name: str, kind: str, content: str | bytes) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)
