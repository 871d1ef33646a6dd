"""The server of the page answers as the classifier does, and refuses what is out of bounds."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.demo import server
from innerloop.demo.answers import episode_source, offered
from innerloop.demo.questions import MAX_BODY
from innerloop.demo.server import create_app


@pytest.fixture(scope="module")
def app(entries):
    return create_app(entries, *episode_source("glyphs", None, entries), ["testserver"])


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app) as client:
        yield client


def png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def drawn(*lines: tuple[int, ...], size: int = 105) -> Image.Image:
    image = Image.new("L", (size, size), 255)
    for line in lines:
        ImageDraw.Draw(image).line(line, fill=0, width=3)
    return image


CROSS = drawn((20, 20, 85, 85), (85, 20, 20, 85))
ROOF = drawn((20, 80, 52, 20), (52, 20, 85, 80))
BARS = drawn((20, 30, 85, 30), (20, 55, 85, 55), (20, 80, 85, 80))
TURNED_ROOF = drawn((22, 30, 50, 85), (50, 85, 88, 28))


def question(**changes) -> dict:
    support = [[png(image)] for image in (CROSS, ROOF, BARS)]
    query = png(drawn((24, 18, 80, 88), (88, 24, 18, 80)))
    return {"model": "omniglot-conv4", "support": support, "query": query} | changes


def test_the_belief_goes_from_chance_to_the_right_class(client):
    reply = client.post("/api/predict", json=question())
    assert reply.status_code == 200
    steps = reply.json()["steps"]
    assert len(steps) == 6
    assert steps[0]["probabilities"] == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert steps[-1]["probabilities"][0] > 0.8
    assert steps[-1]["support_loss"] < steps[0]["support_loss"]


def test_it_is_what_the_classifier_says(client):
    for prepare in ("auto", "ink", "none"):
        classifier = FewShotClassifier(inner_steps=3, ink="dark", prepare=prepare)
        classifier.fit([CROSS, ROOF, BARS], [0, 1, 2])
        asked = question(query=png(TURNED_ROOF), inner_steps=3, prepare=prepare)
        reply = client.post("/api/predict", json=asked).json()
        beliefs = classifier.staged_predict_proba(TURNED_ROOF)
        for mine, theirs in zip(beliefs, reply["steps"], strict=True):
            assert theirs["probabilities"] == pytest.approx(mine[0].tolist(), abs=1e-6)
        seen = Image.open(io.BytesIO(base64.b64decode(reply["seen"])))
        assert np.array_equal(np.asarray(seen), classifier.prepared(TURNED_ROOF)[0, 0])
        assert reply["prepared"] == (prepare != "none")


def test_transparent_pictures_are_on_white_paper(client):
    clear = Image.new("RGBA", (105, 105), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=Image.eval(TURNED_ROOF, lambda v: 255 - v))
    one, other = (
        client.post("/api/predict", json=question(query=png(image))).json()["steps"]
        for image in (TURNED_ROOF, clear)
    )
    assert one == other


@pytest.mark.parametrize("model", ["omniglot-protonet", "glyphs-conv4", "untrained"])
@pytest.mark.filterwarnings("ignore:.* that another class has")
def test_every_network_answers_with_unequal_numbers_of_examples(client, model):
    support = [[png(CROSS)], [png(ROOF)] * 5, *[[png(BARS)]] * 8]
    reply = client.post("/api/predict", json=question(model=model, support=support))
    steps = reply.json()["steps"]
    assert len(steps) == (1 if model == "omniglot-protonet" else 6)
    for step in steps:
        assert len(step["probabilities"]) == 10
        assert sum(step["probabilities"]) == pytest.approx(1)


def test_meta_training_bought_something(client):
    right = {"omniglot-conv4": [], "untrained": []}
    for seed in range(20):
        episode = client.get(f"/api/episode?ways=10&seed={seed}").json()
        for model in right:
            asked = {"model": model, "support": episode["support"], "query": episode["query"]}
            steps = client.post("/api/predict", json=asked).json()["steps"]
            right[model].append(steps[-1]["probabilities"][episode["answer"]])
    assert np.mean(right["omniglot-conv4"]) > 0.8
    assert np.mean(right["untrained"]) < 0.7


@pytest.mark.parametrize("model", ["omniglot-conv4", "untrained"])
def test_the_code_runs_and_says_the_same(client, model, capsys):
    asked = question(model=model, inner_steps=2)
    steps = client.post("/api/predict", json=asked).json()["steps"]
    code = client.post("/api/code", json=asked).json()["code"]
    exec(compile(code, "code", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for step, line in zip(steps, lines, strict=True):
        _, said = line.split(" ", 1)
        assert list(eval(said)) == ["A", "B", "C"]
        assert list(eval(said).values()) == pytest.approx(step["probabilities"], abs=6e-4)


def test_episodes_are_repeatable_and_unseen(client, entries):
    first = client.get("/api/episode?ways=3&shots=2&seed=5").json()
    assert first == client.get("/api/episode?ways=3&shots=2&seed=5").json()
    assert first != client.get("/api/episode?ways=3&shots=2&seed=6").json()
    assert [len(row) for row in first["support"]] == [2, 2, 2]
    asked = {"model": "omniglot-conv4", "support": first["support"], "query": first["query"]}
    steps = client.post("/api/predict", json=asked).json()["steps"]
    assert np.argmax(steps[-1]["probabilities"]) == first["answer"]


def test_classes_that_were_trained_on_are_left_out(entries, omniglot_source):
    data, unseen = episode_source("omniglot", str(omniglot_source), entries)
    names = {data.names[i] for i in unseen}
    assert len(names) == 100 + 423  # validation and test characters
    assert not names & set(entries["omniglot-conv4"].loaded.train_classes)


def test_data_that_cannot_be_drawn_is_refused(entries, tmp_path):
    random = tmp_path / "noise.npy"
    np.save(random, np.zeros((9, 20, 1, 28, 28), np.uint8))
    with pytest.raises(UserError, match=r"ten are needed|not dark"):
        episode_source(str(random), None, entries)


def test_models_carry_their_figures(client):
    cards = {card["name"]: card for card in client.get("/api/models").json()["models"]}
    assert set(cards) == {*innerloop.pretrained_names(), "untrained"}
    assert cards["omniglot-conv4"]["accuracy"] > 0.97
    assert not cards["untrained"]["trained"]


BAD = {
    "no such model": question(model="elsewhere"),
    "one class": question(support=[[png(CROSS)]]),
    "eleven classes": question(support=[[png(CROSS)]] * 11),
    "no example": question(support=[[png(CROSS)], []]),
    "six examples": question(support=[[png(CROSS)] * 6, [png(ROOF)]]),
    "no picture": question(query="AAAA"),
    "not base64": question(query="*"),
    "a JPEG": question(query=base64.b64encode(b"\xff\xd8\xff\xe0" * 10).decode()),
    "a cut PNG": question(query=png(CROSS)[:100]),
    "257 pixels": question(query=png(drawn(size=257))),
    "text too long": question(query="A" * 40_004),
    "no steps": question(inner_steps=0),
    "steps as text": question(inner_steps="5"),
    "too many steps": question(inner_steps=11),
    "a further field": question(more=1),
    "a list": [],
    "a number": 1,
}


@pytest.mark.parametrize("path", ["/api/predict", "/api/code"])
@pytest.mark.parametrize("case", BAD)
def test_what_is_out_of_bounds_is_refused(client, path, case):
    reply = client.post(path, json=BAD[case])
    assert reply.status_code == 400, case
    assert set(reply.json()) == {"error"}


def test_a_bomb_is_refused_by_its_header(client):
    bomb = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(bomb, "PNG")
    text = base64.b64encode(bomb.getvalue()).decode()
    assert len(text) < 40_000
    reply = client.post("/api/predict", json=question(query=text))
    assert reply.status_code == 400
    assert "256 pixels" in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
def test_bodies_that_are_none(client, content, kind, status):
    reply = client.post("/api/predict", content=content, headers={"Content-Type": kind})
    assert reply.status_code == status
    assert reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/predict", 405),
        ("POST", "/api/models", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/../server.py", 404),
        ("GET", "/%2e%2e/server.py", 404),
        ("GET", "/api/episode?ways=11", 400),
        ("GET", "/api/episode?seed=x", 400),
        ("GET", "/api/episode?other=1", 400),
    ],
)
def test_other_refusals_are_json_too(client, method, path, status):
    reply = client.request(method, path)
    assert reply.status_code == status
    assert set(reply.json()) == {"error"}


def test_other_names_of_the_host_are_refused(client):
    assert client.get("/api/models", headers={"Host": "evil.example"}).status_code == 400


def test_no_other_host_may_be_asked(client):
    reply = client.get("/")
    assert reply.status_code == 200
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert "http" not in reply.text.replace("http-equiv", "")


def test_the_page_has_no_networks_of_its_own_where_there_is_a_server(client):
    reply = client.get("/networks.js")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/javascript")
    assert reply.text == ""


def test_a_slow_body_ends_in_an_error(app, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(10)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"testserver")],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("testserver", 80),
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]


def test_a_long_queue_ends_in_an_error(entries, monkeypatch):
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.05)

    async def wait_in_it():
        api = server._Api(entries, *episode_source("glyphs", None, entries))
        api.one_at_a_time.acquire_on_behalf_of_nowait("another request")
        with pytest.raises(server.HTTPException) as refused:
            await api._compute(lambda: None)
        assert refused.value.status_code == 503

    asyncio.run(wait_in_it())


def test_nothing_is_left_of_a_request(client):
    first = client.post("/api/predict", json=question()).json()
    client.post("/api/predict", json=question(support=[[png(ROOF)], [png(BARS)]]))
    assert client.post("/api/predict", json=question()).json() == first


def test_runs_that_take_no_drawings_are_refused(tmp_path):
    run = innerloop.train(
        data="random", inputs="raw", out=tmp_path / "run", iterations=1, val_every=1, test_tasks=2
    )
    with pytest.raises(UserError, match="drawings"):
        offered([str(run.folder)])


def test_untrained_is_the_same_network_with_other_weights(entries):
    loaded, untrained = (entries[n].loaded for n in ("omniglot-5steps", "untrained"))
    assert loaded.params.keys() == untrained.params.keys()
    name = "convs.0.weight"
    assert not torch.equal(loaded.params[name], untrained.params[name])
    again = loaded.untrained().params
    assert all(torch.equal(p, again[n]) for n, p in untrained.params.items())
