"""The page for photographs: a classifier on a pretrained network, from pictures of a few things."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio import to_thread
from PIL import Image
from pydantic import Field, StringConstraints
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from innerloop.backbones.sources import is_backbone
from innerloop.classifier import FewShotClassifier
from innerloop.demo.questions import Message
from innerloop.demo.sent import sent_picture
from innerloop.demo.server import STATIC, application, json_body, parsed
from innerloop.errors import UserError
from innerloop.rejection import NothingToGoBy
from innerloop.runs.loading import load_shared

PAGE = Path(__file__).parent / "photo_page"
MAX_BODY = 100_000_000  # bytes
MAX_SIDE = 4096  # pixels
# Things, pictures of each, pictures to classify and of none of the things, in a question.
MAX_THINGS = MAX_EACH = MAX_QUERIES = 50
MAX_BACKGROUND = 100
# Side to which the page scales photos before it sends them, and those of a folder.
SIDE = 512
# A large network takes a second a picture.
SECONDS = 300

Photo = Annotated[str, StringConstraints(max_length=8_000_000, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]


class PhotoClass(Message):
    """A thing, and pictures of it, in base64."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    pictures: Annotated[list[Photo], Field(min_length=1, max_length=MAX_EACH)]


class PhotoQuestion(Message):
    """What to learn from, and what to classify."""

    classes: Annotated[list[PhotoClass], Field(min_length=2, max_length=MAX_THINGS)]
    queries: Annotated[list[Photo], Field(min_length=1, max_length=MAX_QUERIES)]
    background: Annotated[list[Photo], Field(max_length=MAX_BACKGROUND, default_factory=list)]
    reject: Annotated[float, Field(gt=0, lt=1)] | None = None


class PhotoAnswer(Message):
    """What the classifier says of one query."""

    probabilities: list[float] = Field(description="That of each class, in the order asked.")
    none: bool = Field(description="It is none of these.")


class PhotoAnswers(Message):
    """Of all queries, and how they were classified."""

    answers: list[PhotoAnswer]
    head: str | None = Field(description="What tells classes apart by the features.")
    pictures: int = Field(description="From which the threshold comes; 0 where there is none.")
    needed: int = Field(description="Pictures that it would take to promise the share; 0 for none.")


def create_photos_app(
    make: Callable[[], FewShotClassifier],
    name: str,
    support: dict[str, list[Path]],
    hosts: list[str],
) -> Starlette:
    """The application; it keeps the features of pictures as `Backbone` does, and nothing else.

    Args:
        make: gives a classifier that has yet to learn.
        name: of its network, for the page.
        support: pictures by class to open with; empty for none.
        hosts: the names by which it may be called; `["*"]` for any.

    Raises:
        UserError: more than a question may hold, or a picture that cannot be read.

    Warns:
        UserWarning: for pictures that are left out, because there are too many of a thing.
    """
    one_at_a_time = anyio.CapacityLimiter(1)
    opening = {
        "model": name,
        "side": SIDE,
        # The page leaves out what is more, and says so.
        "most": {
            "things": MAX_THINGS,
            "pictures": MAX_EACH,
            "queries": MAX_QUERIES,
            "background": MAX_BACKGROUND,
        },
        "classes": _opening(support),
    }

    async def start(request: Request) -> Response:
        return JSONResponse(opening)

    async def tell(request: Request) -> Response:
        question = parsed(PhotoQuestion, await json_body(request, MAX_BODY))
        with anyio.fail_after(SECONDS):
            found = await to_thread.run_sync(answers, question, make(), limiter=one_at_a_time)
        return JSONResponse(found.model_dump())

    api = [Route("/start", start), Route("/tell", tell, methods=["POST"])]
    routes = [
        Mount("/api", routes=api),
        Mount("/shared", StaticFiles(directory=STATIC)),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return application(routes, hosts)


def takes_photos(model: str) -> bool:
    """Whether a network takes colour pictures.

    Args:
        model: as for `FewShotClassifier`.

    Raises:
        UserError: there is no such network.
    """
    if is_backbone(model):
        return True
    loaded = load_shared(model)
    shape = loaded.input_shape
    return bool(loaded.computed_by) or (len(shape) == 3 and shape[0] == 3)


def classifiers(model: str, **options: Any) -> Callable[[], FewShotClassifier]:
    """What makes classifiers with this network, which is loaded once.

    Args:
        model: as for `FewShotClassifier`.
        options: keywords of it.

    Raises:
        UserError: there is no such network, or options that are not for it.
    """
    found: Any = model if is_backbone(model) else load_shared(model)
    FewShotClassifier.from_pretrained(found, **options)
    return lambda: FewShotClassifier(found, **options)


def answers(question: PhotoQuestion, classifier: FewShotClassifier) -> PhotoAnswers:
    """What the classifier says once it has learnt the support set.

    Where no class has two different pictures, nothing is refused: there is nothing to go by.

    Raises:
        UserError: a picture that cannot be read, or two classes of one name.
    """
    names = [each.name for each in question.classes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"two things are called {twice[0]}: give them different names")
    support = [_picture(text) for each in question.classes for text in each.pictures]
    labels = [i for i, each in enumerate(question.classes) for _ in each.pictures]
    background = [_picture(text) for text in question.background] or None
    queries = [_picture(text) for text in question.queries]
    limit = None
    with warnings.catch_warnings():
        # The page says it in its own words.
        warnings.filterwarnings("ignore", "the threshold is an estimate")
        classifier.fit(support, labels, background=background)
        if question.reject is not None:
            with contextlib.suppress(NothingToGoBy):
                limit = classifier.threshold(question.reject)
        told, probabilities = classifier.tell(queries, None if limit is None else question.reject)
    return PhotoAnswers(
        answers=[
            PhotoAnswer(probabilities=row.tolist(), none=answer is None)
            for answer, row in zip(told.tolist(), probabilities, strict=True)
        ],
        head=classifier.head_,
        pictures=0 if limit is None else limit.pictures,
        needed=0 if limit is None else limit.needed,
    )


def _opening(support: dict[str, list[Path]]) -> list[dict[str, Any]]:
    """The things to open with, as many and as large as a question may hold."""
    if len(support) > MAX_THINGS:
        raise UserError(
            f"there are {len(support)} folders of pictures, and the page takes {MAX_THINGS}: leave "
            "some out, or use innerloop adapt"
        )
    things = []
    for name, files in support.items():
        n = len(files)
        if n > MAX_EACH:
            warnings.warn(
                f"the page takes {MAX_EACH} pictures of each thing: it opens with so many of the "
                f"{n} of {name}",
                stacklevel=3,
            )
            # Not the first ones, which may all be of one minute.
            files = [files[i * n // MAX_EACH] for i in range(MAX_EACH)]
        things.append({"name": name, "pictures": [_thumbnail(file) for file in files]})
    size = sum(len(text) for thing in things for text in thing["pictures"])
    # The rest is for questions.
    if size > 0.9 * MAX_BODY:
        raise UserError(
            f"the pictures come to {size / 1e6:.0f} MB, more than the page can ask about at a "
            "time: leave some out, or use innerloop adapt"
        )
    return things


def _picture(text: str) -> Image.Image:
    return sent_picture(text, ["PNG", "JPEG"], MAX_SIDE)


def _thumbnail(file: Path) -> str:
    """A picture of a folder as the page sends it, in base64."""
    from innerloop.data.pictures import rgb_picture

    picture = rgb_picture(file.read_bytes(), file)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)  # smaller ones stay
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return base64.b64encode(buffer.getvalue()).decode()
