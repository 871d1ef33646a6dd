"""What the server may be asked, what it answers, and their OpenAPI description.

Every field has a bound, so that every question is answered with bounded work.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import models_json_schema

from innerloop import __version__

MAX_BODY = 2_000_000  # bytes
MAX_SIDE = 256  # pixels
MAX_STEPS = 10

Picture = Annotated[
    str,
    StringConstraints(max_length=40_000, pattern=r"^[A-Za-z0-9+/]+={0,2}$"),
    Field(
        description=f"A PNG file in base64, 1 to {MAX_SIDE} pixels a side, dark strokes on light.",
        json_schema_extra={"format": "picture"},
    ),
]
ClassPictures = Annotated[list[Picture], Field(min_length=1, max_length=5)]


class Message(BaseModel):
    """What is asked or answered: without fields that are unknown."""

    model_config = ConfigDict(extra="forbid")


class Question(Message):
    """A support set, one list of pictures for each class, and a query."""

    model: Annotated[str, StringConstraints(max_length=200)] = Field(
        description="The name of one of /api/models."
    )
    support: Annotated[list[ClassPictures], Field(min_length=2, max_length=10)]
    query: Picture
    inner_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, strict=True)] = 5
    prepare: Literal["auto", "ink", "none"] = Field(
        default="auto", description="Whether the ink is found and centred, or left as it is."
    )


class Step(Message):
    """Before the first inner step, or after one."""

    support_loss: float
    probabilities: list[float] = Field(description="That of each class, in the order asked.")


class Answer(Message):
    """What the network believes about the query."""

    steps: list[Step]
    seen: Picture = Field(description="The query as the network sees it.")
    prepared: bool = Field(description="Whether the ink was found and centred.")


class Code(Message):
    """A program that does what the page does."""

    code: str


class ModelCard(Message):
    """One network of the switch."""

    name: str
    algorithm: str
    data: str = Field(description="What it was trained on.")
    inner_steps: int = Field(description="In training; 0 for an algorithm that takes none.")
    trained: bool
    accuracy: float | None = Field(description="5-way 1-shot, of queries of unseen characters.")
    ci95: float | None


class Models(Message):
    """The networks that can be asked."""

    models: list[ModelCard]


class EpisodeRequest(Message):
    """Which episode of the data set."""

    ways: Annotated[int, Field(ge=2, le=10)] = 5
    shots: Annotated[int, Field(ge=1, le=5)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class EpisodeReply(Message):
    """Symbols that no network of the page has been trained on."""

    data: str
    support: list[list[Picture]]
    query: Picture
    answer: int = Field(description="The class of the query, from 0.")


class Error(Message):
    """Why a request was refused, and how to correct it."""

    error: str


def openapi(models: list[str]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a server that has these models."""
    parts = (Question, Answer, Code, Models, EpisodeReply, Error)
    _, schemas = models_json_schema(
        [(part, "validation") for part in parts], ref_template="#/components/schemas/{model}"
    )
    schemas["$defs"]["Question"]["properties"]["model"]["enum"] = models
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in EpisodeRequest.model_json_schema()["properties"].items()
    ]
    body = {"required": True, "content": _json(Question)}
    refused = ("400", "404", "408", "413", "415", "503")
    return {
        "openapi": "3.1.0",
        "info": {"title": "innerloop demo", "version": __version__},
        "paths": {
            "/api/models": {"get": _operation("The networks that can be asked.", Models)},
            "/api/episode": {
                "get": _operation("An episode of the data set.", EpisodeReply, ("400", "503"))
                | {"parameters": query}
            },
            "/api/predict": {
                "post": _operation("Adapt to the support set, and predict.", Answer, refused)
                | {"requestBody": body}
            },
            "/api/code": {
                "post": _operation("The same in Python.", Code, refused) | {"requestBody": body}
            },
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(
    summary: str, answer: type[BaseModel], refused: tuple[str, ...] = ()
) -> dict[str, Any]:
    responses = {"200": {"description": answer.__doc__, "content": _json(answer)}}
    for status in refused:
        responses[status] = {"description": Error.__doc__, "content": _json(Error)}
    return {"summary": summary, "responses": responses}


def _json(part: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{part.__name__}"}}}
