"""LaTeX becomes whole MathML or an error; the rest of a text stays text."""

import xml.etree.ElementTree as ElementTree

import pytest

from w2v_inf.reporting.typeset import MATHML, displayed, typeset


@pytest.mark.parametrize(
    "latex",
    [
        *(r"\foo x", r"\frac{a}", "x_{", r"\left( a", "a } b", "x^"),
        *(r"\begin{aligned} a &= b \end{aligned}", "a & b"),
    ],
)
def test_what_cannot_be_typeset_is_an_error(latex: str) -> None:
    with pytest.raises(ValueError, match="cannot be typeset"):
        displayed(latex)
    with pytest.raises(ValueError, match="cannot be typeset"):
        typeset(f"so ${latex}$.")


def test_a_dollar_sign_alone_is_an_error() -> None:
    with pytest.raises(ValueError, match="without its partner"):
        typeset("it costs $5")


def test_everything_but_formulas_is_escaped() -> None:
    assert typeset("a <b> `c<d` **e&f**") == (
        "a &lt;b&gt; <code>c&lt;d</code> <strong>e&amp;f</strong>"
    )
    assert "&lt;" in typeset("$a < b$") and "<strong>From <span" in typeset("**From $w$.**")


def test_punctuation_stays_with_its_formula() -> None:
    assert typeset("($n$), b").startswith('<span class="inline">(<math')
    assert typeset("($n$), b").endswith("</math>),</span> b")


def test_a_displayed_formula_has_one_part_per_line() -> None:
    assert displayed("a = b\n= c").count('display="block"') == 2


def _operators(latex: str) -> dict[str, dict[str, str]]:
    tree = ElementTree.fromstring(displayed(latex))
    return {e.text or "": e.attrib for e in tree.iter(f"{MATHML}mo")}


def test_operators_that_the_library_takes_for_letters() -> None:
    assert set(_operators(r"\langle u, w \rangle \sim v'")) == set("⟨,⟩∼′")
    assert _operators(r"\lVert u \rVert")["‖"]["stretchy"] == "false"
    assert _operators(r"\left\lVert u \right\rVert")["‖"]["stretchy"] == "true"


def test_signs_and_slashes_have_no_blanks() -> None:
    assert _operators("b = -a")["−"] == {"form": "prefix"} and _operators("b - a")["−"] == {}
    assert _operators("1 / n")["/"] == {"lspace": "0", "rspace": "0"}


def test_functions_stand_apart_from_letters_only() -> None:
    for latex, blanks in ((r"a \log b", 2), (r"\log (b)", 0), (r"= \log b", 1), (r"\log", 0)):
        assert displayed(latex).count("<mspace") == blanks
