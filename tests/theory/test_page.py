"""theory.html: every claim is in it, with its own derivation, figure and table."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import config_of
from html_page import Page
from quick_claims import CLAIMS, quick_claims

from w2v_inf.reporting.typeset import typeset
from w2v_inf.theory import page as page_module

SHOW_PROBES = page_module.probes.show
FORMULAS = [("formula", "x\ny"), ("formula", "z")]


@pytest.fixture(scope="module")
def claims() -> Iterator[pytest.MonkeyPatch]:
    with quick_claims() as patch:
        yield patch


@pytest.fixture(scope="module")
def page(claims: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("theory")
    path = page_module.theory(config_of(f"plot.out={folder}", "num_threads=1"))
    return path, path.read_text(encoding="utf-8")


def test_every_claim_is_there_with_its_derivation_figure_and_table(page: tuple[Path, str]) -> None:
    path, text = page
    assert path.name == "theory.html" and text.count("<h2>") == len(CLAIMS) >= 10
    for name in CLAIMS:
        title = (getattr(page_module, name).__doc__ or "").partition("\n")[0]
        assert f"<h2>{typeset(title)}</h2>" in text
        assert f"caption of &lt;{name}&gt;" in text and f">{name}</td>" in text
        assert f"<li>note on {name}</li>" in text
        for kind in ("png", "svg"):
            assert (path.parent / f"{name}.{kind}").stat().st_size > 1000


def test_no_word_of_a_derivation_is_lost(page: tuple[Path, str]) -> None:
    words = Page(re.sub(r"<math.*?</math>", " ", page[1], flags=re.DOTALL)).words()
    for name in CLAIMS:
        text = re.sub(r"\$[^$]+\$", " ", _derivation(name).replace("**", ""))
        lines = [line for line in text.replace("`", "").splitlines() if line[:4].strip()]
        lost = set(" ".join(lines).split()) - {"-"} - words
        assert lost == set()


def test_every_formula_is_typeset(page: tuple[Path, str]) -> None:
    """Each one of the docstrings is in the page, and nothing of LaTeX is left in its text."""
    formulas = 0
    for name in CLAIMS:
        formulas += len(re.findall(r"\$[^$]+\$", getattr(page_module, name).__doc__ or ""))
        formulas += sum(not line[:4].strip() for line in _derivation(name).splitlines() if line)
    assert page[1].count("<math") == formulas > 250
    text = "".join(Page(page[1]).text)
    assert not set("\\$^{}`") & set(text) and "**" not in text


def _derivation(name: str) -> str:
    return (getattr(page_module, name).__doc__ or "").partition("\n")[2]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("a\nb\n\nc", [("p", "a\nb"), ("p", "c")]),
        ("a\n- b\n  c\n- d\ne", [("p", "a"), ("li", "b\nc"), ("li", "d"), ("p", "e")]),
        ("a\n    x\n      y\n    z\nb", [("p", "a"), *FORMULAS, ("p", "b")]),
    ],
    ids=["paragraphs", "items", "formulas"],
)
def test_blocks_of_a_docstring(text: str, blocks: list[tuple[str, str]]) -> None:
    assert page_module._blocks(text) == blocks


def test_the_page_needs_nothing_else(page: tuple[Path, str]) -> None:
    addresses = Page(page[1]).addresses
    assert len(addresses) == 2 * len(CLAIMS)  # each figure for a desk and for a phone
    assert all(address and address.startswith("data:") for address in addresses)


def test_the_figures_can_be_written_again(
    page: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = {path.name: path.read_bytes() for path in page[0].parent.iterdir()}
    path = page_module.theory(config_of(f"plot.out={page[0].parent}", "num_threads=1"))
    assert capsys.readouterr().out == f"{path}\n"
    assert first == {path.name: path.read_bytes() for path in page[0].parent.iterdir()}


def test_a_text_that_does_not_suit_one_claim_costs_that_claim_only(
    claims: pytest.MonkeyPatch, tmp_path: Path
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
    with claims.context() as patch:
        patch.setattr(page_module.probes, "show", SHOW_PROBES)
        content = page_module.theory(config).read_text(encoding="utf-8")
    assert "Not measured: corpus=toy knows too few question words to probe" in content
    assert content.count("<h2>") == len(CLAIMS)
    assert content.count("<figure") == len(CLAIMS) - 1
