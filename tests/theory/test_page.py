"""theory.html: every claim is in it, with its own derivation, figure and table."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from composed import config_of
from html_page import Page
from markupsafe import escape

import w2v_inf.theory
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory import page as page_module
from w2v_inf.theory.exhibit import Exhibit

NOT_CLAIMS = {"__init__", "page", "exhibit", "data"}
SHOW_PROBES = page_module.probes.show
CLAIMS = sorted(
    {path.stem for path in Path(w2v_inf.theory.__file__).parent.glob("*.py")} - NOT_CLAIMS
)


def _exhibit(module: ModuleType) -> Exhibit:
    name = module.__name__.split(".")[-1]
    drawing = Drawing(name, name, new_axes(2, 2)[0], f"caption of <{name}>")
    return Exhibit(drawing, [["head", "b"], [name, "1"]], [f"note on {name}"])


@pytest.fixture(scope="module")
def quick_claims() -> Iterator[pytest.MonkeyPatch]:
    """Every claim shows an empty figure."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CLAIMS:
            module = getattr(page_module, name)
            patch.setattr(module, "show", lambda *_, module=module: _exhibit(module))
        yield patch


@pytest.fixture(scope="module")
def page(
    quick_claims: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("theory")
    path = page_module.theory(config_of(f"plot.out={folder}", "num_threads=1"))
    return path, path.read_text(encoding="utf-8")


def test_every_claim_is_there_with_its_derivation_figure_and_table(page: tuple[Path, str]) -> None:
    path, text = page
    assert path.name == "theory.html" and text.count("<h2>") == len(CLAIMS) >= 10
    for name in CLAIMS:
        title, *derivation = (getattr(page_module, name).__doc__ or "").splitlines()
        assert f"<h2>{title.rstrip('.')}</h2>" in text and escape(derivation[2][:30]) in text
        assert f"caption of &lt;{name}&gt;" in text and f">{name}</td>" in text
        assert f"<li>note on {name}</li>" in text
        for kind in ("png", "svg"):
            assert (path.parent / f"{name}.{kind}").stat().st_size > 1000


def test_no_word_of_a_derivation_is_lost(page: tuple[Path, str]) -> None:
    words = " ".join(Page(page[1]).text).split()
    for name in CLAIMS:
        derivation = (getattr(page_module, name).__doc__ or "").partition("\n")[2]
        assert set(derivation.split()) - {"-"} <= set(words)


def test_the_page_needs_nothing_else(page: tuple[Path, str]) -> None:
    addresses = Page(page[1]).addresses
    assert len(addresses) == len(CLAIMS)
    assert all(address and address.startswith("data:") for address in addresses)


def test_the_figures_can_be_written_again(
    page: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = {path.name: path.read_bytes() for path in page[0].parent.iterdir()}
    path = page_module.theory(config_of(f"plot.out={page[0].parent}", "num_threads=1"))
    assert capsys.readouterr().out == f"{path}\n"
    assert first == {path.name: path.read_bytes() for path in page[0].parent.iterdir()}


def test_a_text_that_does_not_suit_one_claim_costs_that_claim_only(
    quick_claims: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = tmp_path / "toy.txt"
    text.write_text("the cat sat on the mat and the dog sat on the cat\n" * 40)
    config = config_of(
        "corpus=file",
        f"corpus.path={text}",
        f"data_dir={tmp_path}",
        f"plot.out={tmp_path}",
        "num_threads=1",
    )
    with quick_claims.context() as patch:
        patch.setattr(page_module.probes, "show", SHOW_PROBES)
        content = page_module.theory(config).read_text(encoding="utf-8")
    assert "Not measured: corpus=toy knows too few question words to probe" in content
    assert content.count("<h2>") == len(CLAIMS)
    assert content.count("<figure") == len(CLAIMS) - 1
