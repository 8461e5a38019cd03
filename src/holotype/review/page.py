"""The page of `holotype review`: its server, which only this machine can reach."""

import json
import logging
import math
import secrets
import socket
import sqlite3
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.resources import files as resources
from threading import Lock, Thread
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as NotServed

from holotype.answers import Given
from holotype.errors import HolotypeError, OutputError, UnreadableImage
from holotype.exchange import label_studio_tasks, write_csv
from holotype.progress import Advance
from holotype.review.guard import Guard
from holotype.review.review import Review, Shown

SIDES = {"thumb": 320, "large": 1600}  # pixels of the long side
SERVED = {
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript"
        for name in (
            "page",
            "desk",
            "server",
            "pictures",
            "one",
            "grid",
            "gallery",
            "viewer",
            "standing",
            "exemplars",
            "applying",
        )
    },
}
REPORT = "report.html"
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
PICTURE_CACHE = "private, max-age=31536000, immutable"
MOST = 200  # answers of one act, and questions that are asked for at once

Label = Annotated[str, Field(min_length=1, max_length=1000)]
Row = Annotated[int, Field(ge=0, lt=2**31)]
Act = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Size = Literal["thumb", "large"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OneAnswer(_Body):
    """Does image `row` show class `label`?"""

    row: Row
    label: Label
    said: Literal["yes", "no", "unsure", "exemplar"]


class AnswersBody(_Body):
    """What was said with one key, or on one grid; `act` is made by the page, and the same when it is sent again."""

    act: Act
    answers: Annotated[list[OneAnswer], Field(min_length=1, max_length=MOST)]


class WithdrawBody(_Body):
    """An exemplar that is to be none any more."""

    act: Act
    label: Label
    name: Annotated[str, Field(min_length=1, max_length=4000)]


class UndoBody(_Body):
    """An act that is not to hold."""

    act: Act


class EmptyBody(_Body):
    """What a request sends that only starts something."""


class Json(JSONResponse):
    """JSON in ASCII, so that an id that is no Unicode can be sent; what is no number is null."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of `content`."""
        return json.dumps(_finite(content), separators=(",", ":")).encode()


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


class Applying:
    """The answers going into the groups, in a thread of its own; also the `Progress` that the stages tell."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._lock = Lock()
        self._thread: Thread | None = None
        self.state: Literal["never", "running", "done", "failed"] = "never"
        self.stage, self.message, self.done, self.total = "", "", 0, 0

    def start(self) -> None:
        """Start, unless it runs already."""
        with self._lock:
            if self.state == "running":
                return
            self.stage, self.message, self.done, self.total, self.state = "", "", 0, 0, "running"
            self._thread = Thread(target=self._run, name="apply", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._review.apply(self)
        except HolotypeError as error:
            self.message, self.state = str(error), "failed"
        except Exception:
            logging.getLogger("uvicorn.error").exception("the answers could not be applied")
            self.message, self.state = "this should not have happened; the terminal says more", "failed"
        else:
            self.message, self.state = str(self._review.out / REPORT), "done"

    def say(self, text: str) -> None:
        """Take one line about what is happening."""
        self.stage, self.done, self.total = text, 0, 0

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        """Take a bar over `total` items."""
        self.stage, self.done, self.total = text, 0, total

        def advance(count: int) -> None:
            self.done += count

        yield advance

    def wait(self) -> None:
        """Return when it does not run any more."""
        if self._thread is not None:
            self._thread.join()

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "state": self.state,
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "message": self.message,
        }


class Desk:
    """What the server knows since its start: the pictures that it served, the questions that it asked, the acts."""

    def __init__(self, review: Review, who: str) -> None:
        self.review = review
        self.applying = Applying(review)
        self.nonce = secrets.token_urlsafe(9)  # in the address of each picture: none of an earlier start is taken
        self._who = who
        self._recording, self._asking = Lock(), Lock()
        self._served: set[int] = set()
        self._acts: dict[str, tuple[_Body, list[Given]]] = {}
        self._recorded: set[str] = set()
        self._learnt = 0
        # an audited answer that is corrected stays an audited one
        self._audits = {(one.id, one.label): True for one in review.answers.current() if one.audit}

    def picture(self, row: int, size: Size, nonce: str) -> bytes:
        """Return a picture of the pool, and remember that it was served."""
        self._check_row(row)
        self._check_nonce(nonce)
        picture = self.review.picture(row, SIDES[size])
        self._served.add(row)
        return picture

    def exemplar_picture(self, number: int, size: Size, nonce: str, name: str) -> bytes:
        """Return the picture of exemplar `number`, if that is still the one called `name`."""
        self._check_nonce(nonce)
        if not any((one.number, one.name) == (number, name) for one in self._exemplars()):
            raise HTTPException(404, "there is no such exemplar any more")
        return self.review.exemplar_picture(number, SIDES[size])

    def questions(self, label: str, n: int, exclude: Sequence[int]) -> list[dict[str, Any]]:
        """Return the next questions. Which are of the audit is kept here: it must not sway the answer."""
        self.check_label(label)
        asked = self.review.next(n, label, [row for row in exclude if row < len(self.review)])
        with self._asking:
            self._audits |= {(one.id, label): one.audit for one in asked}
        return [{"row": one.row, "id": one.id, "score": one.score, "why": one.why} for one in asked]

    def answer(self, body: AnswersBody) -> None:
        """Record what was said about images that were served."""
        for one in body.answers:
            self.check_label(one.label)
            self._check_row(one.row)
        self._record(body.act, body, lambda: [self._given(one) for one in body.answers])

    def withdraw(self, body: WithdrawBody) -> None:
        """Record that an exemplar is none any more."""
        self.check_label(body.label)

        def given() -> list[Given]:
            if all(one.name != body.name for one in self.review.exemplars(body.label)):
                raise HTTPException(404, "there is no such exemplar any more")
            return [Given(body.name, body.label, "withdrawn", self._who)]

        self._record(body.act, body, given)

    def undo(self, act: str) -> bool:
        """Take an act back; False when that is done already."""
        return self.review.undo(act, self._who)

    def learn(self) -> None:
        """Learn from what was said since the last time."""
        self.review.refit()
        self._learnt += 1

    @property
    def version(self) -> str:
        """Another text whenever another tab has something new to show."""
        return f"{self.review.version} {self._learnt} {self.applying.state}"

    def state(self, label: str) -> dict[str, Any]:
        """Return what the page shows beside the questions of a class."""
        self.check_label(label)
        moved = self.review.moved(label)
        return {
            "version": self.version,
            "standing": asdict(self.review.standing(label)),
            "exemplars": [asdict(one) for one in self.review.exemplars(label)],
            "moved": {"joined": self._named(moved.joined), "left": self._named(moved.left)},
        }

    def check_label(self, label: str) -> None:
        """Raise when there is no such class."""
        if label not in self.review.classes:
            raise HTTPException(404, "there is no such class in this run")

    def _record(self, act: str, body: _Body, given: Callable[[], list[Given]]) -> None:
        """Record an act once, as it was first understood: when it is sent again, what it asked for may be done."""
        with self._recording:
            known, said = self._acts.get(act) or (body, given())
            if known != body:
                raise HTTPException(409, "this act is known with other answers; give these an id of their own")
            self._acts[act] = known, said
            if act not in self._recorded:
                self.review.record(said, act)
                self._recorded.add(act)

    def _given(self, one: OneAnswer) -> Given:
        if one.row not in self._served:
            raise HTTPException(409, "this image was not shown since the server was started; reload the page")
        name = self.review.ids[one.row]
        return Given(name, one.label, one.said, self._who, self._audits.get((name, one.label), False))

    def _named(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        return [{"row": int(row), "id": self.review.ids[row]} for row in rows]

    def _exemplars(self) -> list[Shown]:
        return [one for label in self.review.classes for one in self.review.exemplars(label)]

    def _check_row(self, row: int) -> None:
        if row >= len(self.review):
            raise HTTPException(404, f"expected the row of an image below {len(self.review)}, got {row}")

    def _check_nonce(self, nonce: str) -> None:
        if nonce != self.nonce:
            raise HTTPException(409, "the server was started anew; reload the page")


def create_app(review: Review, *, port: int, who: str = "") -> FastAPI:
    """Return the page's server, to run on 127.0.0.1 at `port`. `who` is recorded with each answer."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, default_response_class=Json, redirect_slashes=False)
    desk = app.state.desk = Desk(review, who)
    app.add_middleware(Guard, port=port)
    _explain_errors(app)
    _add_files(app, desk)
    _add_pictures(app, desk)
    _add_questions(app, desk)
    _add_results(app, desk)
    return app


def _explain_errors(app: FastAPI) -> None:
    def answer(status: int, why: str) -> Response:
        return Json({"error": why}, status)

    app.add_exception_handler(NotServed, lambda _, error: answer(error.status_code, error.detail))
    app.add_exception_handler(RequestValidationError, lambda _, error: answer(422, _fault(error)))
    app.add_exception_handler(UnreadableImage, lambda _, error: answer(422, str(error)))
    app.add_exception_handler(HolotypeError, lambda _, error: answer(_status(error), str(error)))


def _status(error: Exception) -> int:
    """503 where the disk, or another program, keeps us from it: the page tries again. 409 for what cannot be."""
    passing = isinstance(error, OutputError) or isinstance(error.__cause__, OSError | sqlite3.Error)
    return 503 if passing else 409


def _fault(error: RequestValidationError) -> str:
    """Say which part of a request is wrong; what came in its place is not repeated."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}"


def _add_files(app: FastAPI, desk: Desk) -> None:
    here = resources("holotype.review") / "static"
    content = {name: (here / name).read_bytes() for name in SERVED}
    page = _page(desk)

    @app.get("/")
    def top() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in content:
            raise HTTPException(404, "there is no such file")
        return Response(content[name], media_type=SERVED[name])


def _page(desk: Desk) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("holotype.review", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        classes=desk.review.classes, nonce=desk.nonce, out=desk.review.out, report=desk.review.out / REPORT
    )


def _add_pictures(app: FastAPI, desk: Desk) -> None:
    def jpeg(picture: bytes) -> Response:
        return Response(picture, media_type="image/jpeg", headers={"cache-control": PICTURE_CACHE})

    @app.get("/image/{row}/{size}")
    def image(row: Row, size: Size, v: str) -> Response:
        return jpeg(desk.picture(row, size, v))

    @app.get("/exemplar/{number}/{size}")
    def exemplar(number: Row, size: Size, v: str, name: str) -> Response:
        return jpeg(desk.exemplar_picture(number, size, v, name))


def _add_questions(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/questions")
    def questions(label: Label, n: Annotated[int, Field(ge=1, le=MOST)], exclude: str = "") -> Response:
        return Json({"questions": desk.questions(label, n, _rows(exclude))})

    @app.post("/api/answers")
    def answers(body: AnswersBody) -> Response:
        desk.answer(body)
        return Json({"version": desk.version})

    @app.post("/api/withdraw")
    def withdraw(body: WithdrawBody) -> Response:
        desk.withdraw(body)
        return Json({"version": desk.version})

    @app.post("/api/undo")
    def undo(body: UndoBody) -> Response:
        return Json({"undone": desk.undo(body.act), "version": desk.version})

    @app.post("/api/refit")
    def refit(body: EmptyBody) -> Response:  # noqa: ARG001 - checked to be empty
        desk.learn()
        return Json({"version": desk.version})


def _rows(text: str) -> list[int]:
    """Read rows with commas between."""
    parts = text.split(",") if text else []
    if len(parts) > 10 * MOST or not all(part.isascii() and part.isdecimal() and len(part) < 11 for part in parts):
        raise HTTPException(422, "exclude: expected rows with commas between")
    return [int(part) for part in parts]


def _add_results(app: FastAPI, desk: Desk) -> None:
    review = desk.review

    @app.get("/api/state")
    def state(label: Label) -> Response:
        return Json(desk.state(label))

    @app.get("/api/version")
    def version() -> Response:
        return Json({"version": desk.version})

    @app.get("/api/gallery")
    def gallery(
        label: Label,
        part: Literal["found", "doubtful", "rejected"],
        sort: Literal["best", "worst"] = "best",
        text: Annotated[str, Query(max_length=1000)] = "",
        answered: bool | None = None,
        start: Row = 0,
        count: Annotated[int, Field(ge=1, le=MOST)] = 60,
    ) -> Response:
        desk.check_label(label)
        items, total = review.gallery(label, part, sort=sort, text=text, answered=answered, start=start, count=count)
        return Json({"items": [asdict(item) for item in items], "total": total})

    @app.post("/api/apply")
    def apply(body: EmptyBody) -> Response:  # noqa: ARG001 - checked to be empty
        desk.applying.start()
        return Json(desk.applying.to_json(), 202)

    @app.get("/api/apply")
    def applied() -> Response:
        return Json(desk.applying.to_json())

    @app.get("/report")
    def report() -> Response:
        with suppress(OSError):
            content = (review.out / REPORT).read_bytes()
            return Response(content, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
        raise HTTPException(404, "there is no report yet; apply the answers first")

    download = partial(_download, review)
    app.add_api_route("/answers.csv", partial(download, "answers.csv", "text/csv", _csv))
    app.add_api_route("/label-studio.json", partial(download, "label-studio.json", "application/json", _label_studio))


def _csv(review: Review) -> str:
    return write_csv(review.answers.current())


def _label_studio(review: Review) -> str:
    return json.dumps(label_studio_tasks(review.answers.current(), review.classes), indent=1)


def _download(review: Review, name: str, kind: str, content: Callable[[Review], str]) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content(review), media_type=kind, headers=headers)


def serve(
    review: Review,
    *,
    port: int = 0,
    who: str = "",
    open_browser: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; at `port`, or at one that is free. Raises `OutputError`."""
    with closing(_listen(port)) as listener:
        number = listener.getsockname()[1]
        address = f"http://127.0.0.1:{number}"
        app = create_app(review, port=number, who=who)
        say(f"review at {address} (Ctrl-C ends it; what was answered is kept)")
        if open_browser:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has closed what was open
            make_server(app).run(sockets=[listener])
    applying = app.state.desk.applying
    if applying.state == "running":
        say("the answers are still being applied; Ctrl-C again stops that as well")
        applying.wait()


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return what runs `app`; only warnings are printed."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise OutputError(
            f"cannot serve the page at 127.0.0.1:{port}: {error.strerror or error}; choose another --port"
        ) from error
