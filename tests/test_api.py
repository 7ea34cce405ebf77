"""The API for notebooks, and the example in its documentation."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import w2v_inf
from w2v_inf import api
from w2v_inf.config import PROJECT_ROOT, TextFile
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.models.linear import LinearModel

NOTHING: Any = None
WORDS = ["man", "king", "woman", "queen", "tree"]


def toy() -> api.Embeddings:
    """king - man + woman is queen; tree is opposite to them all."""
    u = torch.tensor([[1.0, 0, 0.1], [1, 1, 0], [1, 0, 1], [1, 1, 1], [-2, 0, 0]])
    return api.Embeddings(
        LinearModel(u, u), Vocabulary(WORDS, np.arange(5, 0, -1)), Path("toy.txt")
    )


def test_queries_by_words() -> None:
    embeddings = toy()
    assert embeddings.analogy("man", "king", "woman")[0][0] == "queen"
    assert [word for word, _ in embeddings.analogy("man", "king", "woman", topn=9)] == [
        "queen",
        "tree",
    ]
    neighbours = embeddings.most_similar("queen", topn=9)
    assert [word for word, _ in neighbours][-1] == "tree" and len(neighbours) == 4
    assert neighbours[0][1] == pytest.approx(2 / 6**0.5) and embeddings.similarity(
        "tree", "king"
    ) == pytest.approx(-(2**-0.5))
    assert embeddings.vector("tree").tolist() == [-2, 0, 0]
    np.testing.assert_allclose(embeddings.gram(["king"], ["woman", "tree"]), [[1, -2]])
    np.testing.assert_allclose(embeddings.gram(["king", "tree"]), [[2, -2], [-2, 4]])


@pytest.mark.parametrize(
    "ask",
    [
        lambda e: e.most_similar("x"),
        lambda e: e.analogy("man", "x", "king"),
        lambda e: e.vector("x"),
        lambda e: e.gram(["man"], ["x"]),
    ],
)
def test_an_unknown_word_is_one_line(ask) -> None:
    with pytest.raises(UserError, match="'x' is not among the 5 words of toy.txt"):
        ask(toy())
    with pytest.raises(UserError, match="toy.txt has 0 of the US cities"):
        toy().plot_pca()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.most_similar("king", topn=-5), "topn must be a whole number .*, got -5"),
        (lambda e: e.most_similar("king", topn=None), "topn must be .*, got None"),
        (lambda e: e.most_similar("king", topn=2.5), "topn must be .*, got 2.5"),
        (lambda e: e.analogy("man", "king", "woman", topn=0), "topn must be .*, got 0"),
        (lambda e: e.gram([]), "words must be at least one word"),
        (lambda e: e.gram(["king"], []), "words must be at least one word"),
        (lambda e: e.gram([["king"]]), "a word must be a text, got \\['king'\\]"),
        (lambda e: e.vector(3), "a word must be a text, got 3"),
        (
            lambda e: api.load(NOTHING),
            "path must be that of a run .*, got None",
        ),
    ],
)
def test_a_wrong_argument_is_one_clear_value_error(ask, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ask(toy())
    assert isinstance(caught.value, ValueError)


def test_a_path_is_expanded_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/no/such/home")
    with pytest.raises(UserError, match="/no/such/home/x"):
        api.load("~/x")
    with pytest.raises(UserError, match="path must be a path"):
        api.load("a\0b")


def test_numbers_of_answers_and_words_of_numpy() -> None:
    assert len(toy().most_similar("king", topn=np.int64(2))) == 2  # pyright: ignore
    assert toy().gram(np.array(["king", "tree"])).shape == (2, 2)  # pyright: ignore
    assert toy().gram("king").shape == (1, 1)


def test_options_by_name_are_those_of_the_scripts() -> None:
    path = '/a folder/it\'s "here", [1]=$.txt'
    named = {"corpus.path": path, "reproduce.widths": [4, 8], "train.lr": 1e-3}
    config = api.compose_config("corpus=file", "stream.window=3", seed=5, **named)
    assert isinstance(config.corpus, TextFile) and config.corpus.path == path
    assert (config.seed, config.stream.window, config.reproduce.widths, config.train.lr) == (
        5,
        3,
        [4, 8],
        1e-3,
    )
    for bad in ({"model.widht": 9}, {"model.width": "many"}, {"corpus": "nix"}, {"seed": -1}):
        with pytest.raises(UserError) as caught:
            api.compose_config(**bad)
        assert "\n" not in str(caught.value)


def test_the_package_has_no_other_names() -> None:
    assert w2v_inf.train is api.train and w2v_inf.load is api.load
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = w2v_inf.trian  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow  # trains whole runs
def test_the_documented_example_runs_as_it_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "w2v_inf")  # the page sets it too; this one is undone
    monkeypatch.chdir(tmp_path)
    compose = api.compose_config
    monkeypatch.setattr(
        api,
        "compose_config",
        lambda *o, **n: compose(*o, f"data_dir={tmp_path}/data", "num_threads=1", **n),
    )
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (PROJECT_ROOT / "docs" / "notebook.md").read_text(), re.M | re.S
    )
    exec(compile("\n".join(blocks), "docs/notebook.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'french'" in printed and "[('queen', 0.6" in printed and "\n79." in printed
    assert any(message.startswith("epoch 4/4  loss 3.") for message in caplog.messages)
    assert "True\n" in printed and "model.width must be from 1 to 1,000,000, got 0" in printed
    assert (tmp_path / "limit.png").stat().st_size > 10_000 and (tmp_path / "narrow.png").exists()


@pytest.mark.slow  # trains whole runs
def test_the_ntk_limits_map_is_a_sample_and_says_so(tmp_path: Path) -> None:
    run = w2v_inf.train(
        "corpus=planted",
        "model=ntk_limit",
        "train.epochs=1",
        f"data_dir={tmp_path}",
        f"run_dir={tmp_path}/ntk",
        num_threads=1,
    )
    assert run.most_similar("france", topn=1)[0][1] == 0 and run.vector("france").sum() == 1
    assert "sample of width 64" in run.plot_pca().axes[0].get_title()


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nope not found: give a run folder"):
        w2v_inf.load(tmp_path / "nope")
    with pytest.raises(UserError, match="is no run folder .*no export .*give the folder of one"):
        w2v_inf.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="config.json is not of w2v_inf"):
        w2v_inf.load(tmp_path)
