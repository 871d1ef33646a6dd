"""README and docs agree with the result files, with each other, and with the command line."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.pictures import LABELS, chinese
from tools import execution_picture
from tools.notebooks import CHAPTERS
from tools.pages import IMAGES, pictures, run, same_output, tutorial_pages
from tools.tables import PAGES, filled

import innerloop
from innerloop.cli import COMMANDS, main
from innerloop.ops import kernels

ROOT = Path(__file__).parent.parent
ENGLISH = [page for page in PAGES if "zh" not in page]


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_result_files(page):
    assert (ROOT / page).read_text("utf-8") == filled(page), "run python -m tools.tables"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_a_readme_has_100_lines_at_most(page):
    assert len((ROOT / page).read_text("utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "Makefile"])
def test_modules_and_files_that_are_named_exist(page):
    text = (ROOT / page).read_text("utf-8")
    for module in re.findall(r"-m ((?:benchmarks|trials|tools|research)\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for path in re.findall(r"`((?:\w+/)+\w+\.(?:py|yaml|inc|c))(?:::\w+)?`", text):
        assert any((ROOT / above / path).exists() for above in ("", "src/innerloop")), path


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def other_language(page: str) -> str:
    return page.replace("docs/en", "docs/zh").replace("README.md", "README.zh.md")


def commands(page: str) -> list[str]:
    lines = [line.split("#")[0].strip() for b in blocks(page, "sh") for line in b.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("page", ENGLISH)
def test_both_languages_have_the_same_code(page):
    assert blocks(page, "python") == blocks(other_language(page), "python")
    assert commands(page) == commands(other_language(page))


@pytest.mark.parametrize("page", [page for page in PAGES if "zh" in page])
def test_chinese_prose_has_chinese_punctuation(page):
    text = (ROOT / page).read_text("utf-8")
    prose = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"[\u4e00-\u9fff][,;:?!](?:\s|$).*", prose) == []
    assert re.findall(r"^#+[^# \n].*", prose, re.MULTILINE) == []


@pytest.mark.parametrize(
    "page", [page for page in ENGLISH if page.startswith("docs") and "/tutorial/" not in page]
)
def test_the_python_of_the_docs_runs(page, capsys):
    for code in blocks(page, "python"):
        exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out or not blocks(page, "python")


@pytest.mark.parametrize("page", ["how-it-is-computed.md", "algorithms/index.md"])
def test_pages_print_how_tasks_are_computed(page, tmp_path):
    if not kernels.ready():
        pytest.skip("without kernels tasks are computed in another way")
    for block, out in run(ROOT / "docs/en" / page, tmp_path):
        assert same_output(out, block[2]), f"{block[1]}\n{out}"
    assert blocks(f"docs/en/{page}", "text") == blocks(f"docs/zh/{page}", "text")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_picture_of_execution_is_the_one_that_is_drawn(language, tmp_path, monkeypatch):
    monkeypatch.setattr(execution_picture, "IMAGES", tmp_path)
    execution_picture.main()
    name = f"execution-{language}.svg"
    drawn, kept = ((folder / name).read_text("utf-8") for folder in (tmp_path, IMAGES.parent))
    words = [re.findall(r">([^<>\n]+)</text>", text) for text in (drawn, kept)]
    assert words[0] == words[1] != [], "run python -m tools.execution_picture"


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [page for page in tutorial_pages("en") if page.stem not in CHAPTERS],
    ids=lambda page: page.stem,
)
def test_the_tutorial_runs_and_prints_what_it_says(page, tmp_path, request):
    """The pages that are no notebooks as well; those run in test_notebooks.py."""
    if "omniglot()" in page.read_text("utf-8"):
        request.getfixturevalue("omniglot_by_default")
    for block, out in run(page, tmp_path):
        assert same_output(out, block[2] or ""), f"{block[1]}\n{out}"
    assert {file.name for file in tmp_path.glob("*.png")} == pictures(page)


WORDLESS = {"glyphs_vs_omniglot.png"}


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("docs/zh/**/*.md")), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_chinese_pages_show_chinese_pictures(page):
    chinese, english = (
        re.findall(r"!\[[^]]*\]\([./]*img/([\w/-]+\.\w+)\)", place.read_text("utf-8"))
        for place in (page, Path(str(page).replace("docs/zh", "docs/en")))
    )
    assert len(chinese) == len(english)
    assert set(chinese) & set(english) <= WORDLESS
    for name in chinese:
        if name.endswith(".svg"):
            drawn = (IMAGES.parent / name).read_text("utf-8")
            words = set(re.findall(r">([^<>\n]+)</text>", drawn))
            # `loop` is also a name in code.
            assert words & set(LABELS) <= {"loop"}, "these labels have Chinese"


def test_labels_are_found_whole_and_the_one_that_says_most():
    assert chinese("A, second order") == "A，二阶"
    title = "4 tasks, 5-way 1-shot, 15 queries, Conv4-64 in torch.nn, second order"
    assert chinese(title).endswith("用 torch.nn 写的 Conv4-64，二阶")
    assert chinese("1,177 ms (11.0x)") == "1,177 ms (11.0x)"
    with pytest.raises(KeyError, match="no Chinese"):
        chinese("a label that nobody translated")


@pytest.mark.parametrize("page", tutorial_pages(), ids=lambda page: f"{page.parts[-3]}-{page.stem}")
def test_both_languages_print_the_same(page):
    other = Path(str(page).replace("docs/en", "docs/zh"))
    assert blocks(str(page), "text") == blocks(str(other), "text")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_example_stands_on_its_page(language):
    page = (ROOT / f"docs/{language}/tutorial/from-scratch.md").read_text("utf-8")
    source = (ROOT / "examples/maml_from_scratch.py").read_text("utf-8")
    code = source.split('"""', 2)[2].split('if __name__ == "__main__"')[0]
    for line in code.splitlines():
        assert line in page or re.match(r"# \d\. ", line), line


def test_the_readmes_python_runs_and_learns(capsys):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    before, *_, after = eval(capsys.readouterr().out)
    assert before == pytest.approx(0.2, abs=0.05)
    assert after > 0.4


@pytest.mark.parametrize("page", ENGLISH)
def test_commands_parse(page, monkeypatch):
    """Each is parsed to the end; with --help nothing is carried out."""
    # Help asks the class of a user's own, which pages call so, for its settings.
    monkeypatch.setitem(sys.modules, "my_package", SimpleNamespace(MyMAML=innerloop.MAML))
    words = [shlex.split(line) for line in commands(page) if line.startswith("innerloop ")]
    if page == "docs/en/commands.md":
        assert {command[1] for command in words} == set(COMMANDS)
    for command in words:
        with pytest.raises(SystemExit) as stop:
            main([*command[1:], "--help"])
        assert stop.value.code == 0, command


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reference_has_every_public_name(language):
    """A name without a docstring would be an empty entry."""
    listed = set(
        re.findall(
            r"^::: innerloop\.(\S+)$",
            (ROOT / f"docs/{language}/api.md").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    modules = [n for n in innerloop.__all__ if inspect.ismodule(getattr(innerloop, n))]
    public = {name for name in innerloop.__all__ if name not in ("__version__", *modules)}
    # What is public without the module's name, too, stands there once.
    public |= {
        f"{m}.{name}"
        for m in modules
        for name in getattr(innerloop, m).__all__
        if getattr(innerloop, name, None) is not getattr(getattr(innerloop, m), name)
    }
    assert listed == public
    for name in public:
        found = innerloop
        for part in name.split("."):
            found = getattr(found, part)
        # For an alias see `test_aliases_say_what_they_are` in test_types.py.
        if inspect.isclass(found) or inspect.isroutine(found) or inspect.ismodule(found):
            assert (inspect.getdoc(found) or "").strip(), name
