"""How many files one meta-gradient runs through: a change that scatters them is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("tools.crossed_files", reason="not a checkout")

from tools.crossed_files import crossed, networks

from innerloop.ops import kernels

PAGES = Path(__file__).parent.parent / "docs"
MOST = {"Conv4": 21, "a network of torch.nn": 28}


@pytest.mark.parametrize("name", MOST)
def test_files_of_a_meta_gradient(name):
    if not kernels.ready():
        pytest.skip("without kernels it goes another way")
    files = crossed(networks()[name])
    assert len(files) <= MOST[name], "\n".join(files)


@pytest.mark.parametrize(
    ("page", "section", "numbers"),
    [
        ("en", "## One meta-gradient, file by file", r"These are (\d+) files.*?: (\d+) files\."),
        ("zh", "## 一次元梯度，逐个文件", r"一共 (\d+) 个文件.*?：(\d+) 个文件。"),
    ],
    ids=["en", "zh"],
)
def test_the_page_names_these_files(page, section, numbers):
    if not kernels.ready():
        pytest.skip("without kernels it goes another way")
    text = (PAGES / page / "how-it-is-computed.md").read_text("utf-8")
    # The table after it says where to change something.
    text = text.split(section)[1].split("\n| ")[0]
    files = [set(crossed(networks()[name])) for name in MOST]
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert named == {f for f in files[0] | files[1] if not f.startswith("ops/stacked/")}
    (found,) = re.findall(numbers, text, re.DOTALL)
    assert [int(number) for number in found] == [len(crossing) for crossing in files]
