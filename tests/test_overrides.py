"""Text options take what was typed; commands that are shown can be typed again."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from w2v_inf.compose import compose_config
from w2v_inf.overrides import as_typed, quote

NAMES = (
    "2023_01",
    "it's.txt",
    'say "x"',
    "café=1#2.txt",
    "дом/текст.txt",
    "a, b (1).txt",
    "[draft] {x}.txt",
    "back\\slash\\",
    "a b",
    "$x@y!z%",
    "*.txt",
    "1e3",
    "true",
)


@pytest.mark.parametrize("text", NAMES)
def test_a_path_is_what_was_typed(text: str) -> None:
    config = compose_config(f"run_dir={text}", "corpus=file", f"corpus.path={text}")
    assert (config.run_dir, config.corpus.path) == (text, text)  # pyright: ignore
    if "," not in text:
        assert compose_config(f"plot.runs=[{text},z]").plot.runs == [text, "z"]


@pytest.mark.parametrize("text", [*NAMES, "null", "${seed}", "\\${seed}", "${", "'q'", "~/x"])
def test_a_quoted_text_comes_back(text: str) -> None:
    there = compose_config(**{"run_dir": text}).run_dir
    assert compose_config(f"run_dir={quote(text)}").run_dir == there
    assert compose_config(f"plot.runs={quote([text, 'z'])}").plot.runs[1] == "z"


def test_other_values_keep_their_grammar() -> None:
    assert quote([None, 1.5, True, "cbow"]) == "[null,1.5,True,cbow]"
    words = ["model.width=16", "corpus=file", "~run_dir", 'run_dir="a b"', "run_dir=", "x=1", "-m"]
    assert as_typed(words) == words
    assert compose_config("run_dir=r/${seed}", "seed=3").run_dir == "r/3"
    assert compose_config("run_dir=r/\\${seed}").run_dir == "r/${seed}"


def test_a_sweep_over_paths_is_a_sweep() -> None:
    assert as_typed(["-m", "corpus.path=it's,b=c"]) == ["-m", 'corpus.path="it\'s","b=c"']
    word = as_typed(["-m", "corpus.path=2023_01,2023_02"])[1]
    parsed = OverridesParser.create().parse_override(word)
    assert parsed.is_sweep_override()
    assert list(parsed.sweep_string_iterator()) == ["'2023_01'", "'2023_02'"] or list(
        parsed.sweep_string_iterator()
    ) == ['"2023_01"', '"2023_02"']
    assert as_typed(["plot.runs=[a, b's]"]) == ['plot.runs=["a","b\'s"]']
    kept = ["-m", "corpus.path=glob(*)", "run_dir='a,b','c'", "plot.runs=[a],[b]"]
    assert as_typed(kept) == kept
