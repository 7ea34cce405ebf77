"""Fuzz tests of what users bring from outside: paths and names, values from Python, learning rates.

Each input has an independent expectation: it comes back as it was given, or is refused in one line.
"""

import copy
import functools
import json
import math
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, event, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import load_file
from test_fuzz import MEMORY, fuzzed

from w2v_inf import compose
from w2v_inf.compose import compose_config
from w2v_inf.config import Architecture, Config, Finite, MupLimit, TextFile
from w2v_inf.errors import UserError
from w2v_inf.evaluation import analogy, pairs, places, similarity
from w2v_inf.overrides import as_typed, quote
from w2v_inf.runs.folder import run_folder
from w2v_inf.training import train as train_stage

pytestmark = pytest.mark.slow  # hundreds of examples

SPECIAL = "=#'\",()[]{}:$@!%&*?;|<>\\ ~^`+-._/0123456789éßдо中\n\t\udcff\x7f"
NAMES = st.one_of(
    st.text(SPECIAL, min_size=1, max_size=12),
    st.text(min_size=1, max_size=8),
    st.sampled_from(
        ["2023_01", "1e3", "null", "true", "nan", "0x10", "it's", "${seed}", "\\${x}", "a,b", "-m"]
    ),
)


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes each set of words once: values by name are set afterwards."""
    known = functools.cache(lambda words, make=compose._compose: make(list(words)))
    monkeypatch.setattr(compose, "_compose", lambda words: copy.deepcopy(known(tuple(words))))


def parsed(word: str) -> Any:
    """What Hydra's parser and OmegaConf make of the value of an option."""
    [quoted] = as_typed([word])
    value = OverridesParser.create().parse_override(quoted).value()
    return OmegaConf.create({"value": value}).value


def can_be_a_file(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


@fuzzed(80)
@given(NAMES)
def test_a_path_from_python_is_what_it_is(name: str) -> None:
    """In the options, saved and read, in the name of the run folder, and in shown commands."""
    assume(name != "???")  # OmegaConf's own word for a value that is missing
    if not can_be_a_file(name):
        with pytest.raises(UserError, match="must be a path"):
            compose_config(run_dir=name)
        event("refused")
        return
    wanted = os.path.expanduser(name)
    config = compose_config("corpus=file", run_dir=name, **{"corpus.path": name})
    assert isinstance(config.corpus, TextFile)
    assert config.run_dir == config.corpus.path == wanted
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        compose.save(config, Path(root, "config.yaml"))
        assert compose.read(Path(root, "config.yaml")).run_dir == wanted
    default = compose_config("corpus=file", runs_dir="r", **{"corpus.path": name})
    group = run_folder(default).parent.name
    assert shlex.quote(group) == group or not group.isascii()
    assert all(c.isalnum() or c in "_.+-" for c in group)


@fuzzed(400)
@given(NAMES)
def test_a_path_on_the_command_line_is_what_was_typed(name: str) -> None:
    """Except `${`, null, and texts that are quoted already, which `quote` writes otherwise."""
    assume(can_be_a_file(name) and name != "???")
    is_quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "'\""
    if "${" not in name and name != "null" and not is_quoted:
        assert parsed(f"run_dir={name}") == name
        event("as typed")
    assert parsed(f"run_dir={quote(name)}") == name


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 64, -1, 2**62, 2**63, 2**64, 10**400]),
    st.floats(),
    st.sampled_from([np.int64(3), np.float32(0.5), np.array([1, 2]), np.array("x"), torch.ones(2)]),
    st.sampled_from([b"x", object, len, {"a": 1}, {1}, [], [1], [[1]], (2, 3), Path("p"), 1j]),
    st.text(max_size=5),
)
OPTIONS = st.sampled_from(
    """model.width train.epochs train.lr seed num_threads run_dir plot.runs reproduce.widths corpus
    model stream.architecture stream.batch_size train model.exponents device nix""".split()
)


def plain(value: Any) -> Any:
    """An independent reading of a value: numpy and paths as what they stand for."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


@fuzzed(200)
@given(OPTIONS, VALUES)
def test_a_value_from_python_is_taken_or_refused_in_one_line(name: str, value: Any) -> None:
    try:
        config: Any = compose_config(**{name: value})
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) > 15
        event("refused")
        return
    event("taken")
    given_, group = plain(value), config
    assert name != "nix" and name != "train"
    for part in name.split("."):
        group = getattr(group, part)
    if name in ("corpus", "model"):
        assert group.name == given_
    elif given_ is None:
        assert name in ("train.lr", "num_threads", "stream.batch_size")
    elif isinstance(group, str) and not isinstance(given_, str):
        pytest.fail(f"{given_!r} became a text")
    elif isinstance(group, list):
        assert group == [os.path.expanduser(x) if isinstance(x, str) else x for x in given_]
    elif isinstance(group, int | float):
        assert group == type(group)(given_) and not isinstance(given_, bool)
    else:
        assert str(group) == os.path.expanduser(str(given_))


QUESTIONS = functools.cache(analogy.read_questions)
WORDS = "paris france berlin germany king queen man woman".split()


@fuzzed(50)
@given(
    st.floats(1.0, 2.5),
    st.sampled_from(Architecture),
    st.sampled_from([Finite(width=4), Finite(width=16), MupLimit()]),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_no_learning_rate_ends_in_nan(
    log_lr: float, architecture: Architecture, model: Any, num_lines: int, seed: int
) -> None:
    """The result is finite everywhere, or one line says that the training diverged."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, pytest.MonkeyPatch.context() as patch:
        # What takes longer than such a training, and does not depend on its numbers.
        patch.setattr(similarity, "SIMILARITY_SETS", {})
        patch.setattr(train_stage, "environment", lambda *arguments: {})
        for module in (analogy, pairs, places):
            patch.setattr(module, "read_questions", QUESTIONS)
        text = Path(root, "t.txt")
        text.write_text("\n".join(" ".join(rng.choice(WORDS, 20)) for _ in range(num_lines)))
        config = Config(
            corpus=TextFile(path=str(text), min_count=1),
            model=model,
            seed=seed,
            num_threads=1,
            run_dir=f"{root}/run",
            data_dir=f"{root}/data",
        )
        config.stream = type(config.stream)(architecture=architecture, subsample_threshold=0)
        config.train = type(config.train)(epochs=1, lr=10**log_lr, weight_decay=0.0)
        config.__post_init__()
        try:
            folder = train_stage.train(config)
        except UserError as error:
            assert "lower train.lr" in str(error) and str(error).isprintable()
            assert not Path(root, "run", "summary.json").exists()
            event("diverged")
            return
        event("trained")
        tables = load_file(folder / "model.safetensors").values()
        assert all(bool(torch.isfinite(table).all()) for table in tables)
        lines = [(folder / "summary.json").read_text()]
        lines += (folder / "metrics.jsonl").read_text().splitlines()
        assert all(map(is_finite, map(json.loads, lines)))


def is_finite(value: Any) -> bool:
    """Whether all numbers in a JSON value are finite."""
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
