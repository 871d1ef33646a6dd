"""Requests generated from the server's own description, well and badly formed: no 5xx."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from innerloop.demo.answers import episode_source, offered
from innerloop.demo.server import create_app

# Requests are made of a few pictures.
pytestmark = pytest.mark.filterwarnings("ignore:.* that another class has")
EXAMPLES = int(os.environ.get("INNERLOOP_SCHEMA_EXAMPLES", "60"))
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    negative_data_rejection,
]


def picture(size: tuple[int, int], seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


# Pictures, so that requests get as far as the network, beside text that is none.
PICTURES = st.builds(picture, st.tuples(*[st.integers(1, 60)] * 2), st.integers(0, 99))
schemathesis.openapi.format("picture", PICTURES)


@pytest.fixture(scope="module")
def described():
    entries = offered([])
    app = create_app(entries, *episode_source("glyphs", None, entries), ["*"])
    return schemathesis.openapi.from_asgi("/api/openapi.json", app)


OPERATIONS = ["GET /models", "GET /episode", "POST /predict", "POST /code"]
# An operation without input cannot be malformed.
CASES = [(o, True) for o in OPERATIONS] + [(o, False) for o in OPERATIONS[1:]]


@pytest.mark.filterwarnings("ignore:the loss on the support images rises")
@pytest.mark.parametrize(("operation", "well_formed"), CASES)
def test_every_request_gets_an_answer_that_is_described(described, operation, well_formed):
    method, path = operation.split()
    asked = described["/api" + path][method]
    mode = GenerationMode.POSITIVE if well_formed else GenerationMode.NEGATIVE
    statuses = set()

    @given(asked.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def try_one(case):
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    try_one()
    # Well-formed requests reach the network, and malformed ones are refused.
    assert 200 in statuses if well_formed else statuses - {200}


def test_no_operation_is_left_out(described):
    found = {op.ok().label.replace("/api", "") for op in described.get_all_operations()}
    assert found == set(OPERATIONS)
