"""The theory report: every module is in it, with its own derivation, figure and table."""

from html import escape
from pathlib import Path
from types import ModuleType

import pytest
from composed import config_of

import w2v_inf.theory
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory import page as page_module
from w2v_inf.theory.exhibit import Exhibit

NOT_ITEMS = {"__init__", "page", "exhibit", "data"}
SHOW_PROBES = page_module.probes.show
ITEMS = sorted(
    {path.stem for path in Path(w2v_inf.theory.__file__).parent.glob("*.py")} - NOT_ITEMS
)


def _exhibit(module: ModuleType) -> Exhibit:
    name = module.__name__.split(".")[-1]
    return Exhibit(
        Drawing(name, name, new_axes()[0], f"caption of <{name}>"), [["head", "b"], [name, "1"]]
    )


@pytest.fixture
def page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[Path, str]:
    for name in ITEMS:
        module = getattr(page_module, name)
        monkeypatch.setattr(module, "show", lambda *_, module=module: _exhibit(module))
    path = page_module.theory(config_of(f"plot.out={tmp_path}", "num_threads=1"))
    assert capsys.readouterr().out == f"{path}\n"
    return path, path.read_text(encoding="utf-8")


def test_every_item_is_there_with_its_derivation_figure_and_table(page: tuple[Path, str]) -> None:
    path, text = page
    assert path.name == "theory.html" and text.count("<h2>") == len(ITEMS) >= 10
    for name in ITEMS:
        title, *derivation = (getattr(page_module, name).__doc__ or "").splitlines()
        assert f"<h2>{title.rstrip('.')}</h2>" in text and escape(derivation[2][:30]) in text
        assert f"caption of &lt;{name}&gt;" in text and f">{name}</td>" in text
        assert {
            (path.parent / f"{name}.{kind}").stat().st_size > 1000 for kind in ("png", "svg")
        } == {True}


def test_the_page_needs_nothing_else(page: tuple[Path, str]) -> None:
    assert "src=" not in page[1].replace('src="data:', "") and "href=" not in page[1].replace(
        'href="#', ""
    ).replace("xlink:href", "")


def test_the_figures_can_be_written_again(page: tuple[Path, str]) -> None:
    first = {path.name: path.read_bytes() for path in page[0].parent.iterdir()}
    page_module.theory(config_of(f"plot.out={page[0].parent}", "num_threads=1"))
    assert first == {path.name: path.read_bytes() for path in page[0].parent.iterdir()}


def test_a_text_that_one_item_cannot_do_with_costs_that_item_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ITEMS:
        module = getattr(page_module, name)
        monkeypatch.setattr(module, "show", lambda *_, module=module: _exhibit(module))
    text = tmp_path / "toy.txt"
    text.write_text("the cat sat on the mat and the dog sat on the cat\n" * 40)
    monkeypatch.setattr(page_module.probes, "show", SHOW_PROBES)
    config = config_of(
        "corpus=file",
        f"corpus.path={text}",
        f"data_dir={tmp_path}",
        f"plot.out={tmp_path}",
        "num_threads=1",
    )
    page = page_module.theory(config)
    content = page.read_text(encoding="utf-8")
    assert (
        "Not measured: corpus=toy knows too few question words to probe" in content
        and content.count("<h2>") == len(ITEMS)
    )
    assert content.count("<figure") == len(ITEMS) - 1
