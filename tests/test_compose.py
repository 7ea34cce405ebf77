"""Command lines and files become options: what is rejected and how, what is saved and read."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from composed import config_of
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from packaging.version import Version

from w2v_inf import compose
from w2v_inf.compose import compose_config
from w2v_inf.config import CONF, CORPORA, MODELS, Dtype, Engine, MupLimit
from w2v_inf.errors import UserError


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=nix"],
        ["model=ntk_limit", "model.width=64"],
        ["model.widht=9"],
        ["model.width=abc"],
        ["corpus=sample", "corpus.url=x"],
    ],
)
def test_hydra_refuses_what_a_group_member_does_not_have(overrides: list[str]) -> None:
    with pytest.raises(HydraException):
        config_of(*overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.storage=bfloat16", "model.storage is now model.dtype"),
        ("+model.storage=bfloat16", "model.storage is now model.dtype"),
        ("model.memory_gib=1", "model.memory_gib is now model.pair_table_gib"),
        *(
            (
                f"experiment=figure-{figure}",
                f"experiment=figure-{figure} is now experiment=figures (plot.figure=NAME for one "
                "figure)",
            )
            for figure in ("accuracy", "loss", "pca", "sections")
        ),
    ],
)
def test_an_old_name_ends_in_one_line_with_the_new_one(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config("model=mup_limit", override)
    assert str(caught.value) == message


def test_every_member_has_a_file_of_its_name() -> None:
    for group, members in (("corpus", CORPORA), ("model", MODELS)):
        files = {path.stem for path in (CONF / group).glob("*.yaml")}
        assert files == {member.name for member in members}
        for member in members:
            path = "corpus.path=x" if member.name == "file" else "seed=0"
            chosen = getattr(compose_config(f"{group}={member.name}", path), group)
            assert type(chosen) is member


def test_null_is_the_default() -> None:
    assert compose_config("stream.batch_size=null", "num_threads=null") == compose_config()


@pytest.mark.parametrize(
    "text", ["20241126_1530", "дом", "a=b#c", "it's", 'say "x"', "null", "${seed}", "\\${", "a\nb"]
)
def test_a_text_from_python_is_what_it_is(text: str, tmp_path: Path) -> None:
    """Also when it is saved and read."""
    config = compose_config(run_dir=text, **{"plot.runs": [text, "z"]})
    assert (config.run_dir, config.plot.runs) == (text, [text, "z"])
    compose.save(config, tmp_path / "config.yaml")
    assert compose.read(tmp_path / "config.yaml").run_dir == text


def test_values_of_numpy_and_pathlib() -> None:
    config = compose_config(
        run_dir=Path("a b"),
        seed=np.int64(3),
        **{"train.lr": np.float32(0.5), "reproduce.widths": np.array([4, 8])},
    )
    assert (config.run_dir, config.seed, config.train.lr) == ("a b", 3, 0.5)
    assert config.reproduce.widths == [4, 8]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.width", "many", "model.width must be a whole number, got 'many'"),
        ("model.width", True, "model.width must be a whole number, got True"),
        ("train.epochs", 2.5, "train.epochs must be a whole number, got 2.5"),
        ("train.epochs", 10**100, "train.epochs must be a whole number, got a number that is too"),
        ("train.lr", float("nan"), "train.lr must be a finite number, got nan"),
        ("run_dir", 20241126, "run_dir must be a text, got 20241126"),
        ("run_dir", b"x", "run_dir must be a text, got b'x'"),
        ("run_dir", None, "run_dir must be a text, got None"),
        ("train", {"lr": 1}, "train is a group of options: write train.NAME=VALUE"),
        ("plot.runs", "runs", "plot.runs is a list: write plot.runs=['runs']"),
        ("model.widht", 9, "model.widht is not an option: did you mean model.width?"),
        ("a b", 1, "a b is not an option"),
        ("corpus", 3, "corpus, model and experiment take a name"),
    ],
)
def test_a_wrong_value_from_python_is_one_line(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config(**{name: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("base", ["1.1", "1.3"])
def test_hydra_in_the_callers_process_stays_as_it_is(base: str) -> None:
    """Inside a Hydra application, with schemas of the same names, and from threads."""
    alone = compose_config("model=mup_limit", seed=3)
    store = ConfigStore.instance()
    store.store(name="schema", node={"own": 1})
    with warnings.catch_warnings():  # of 1.1, which is old
        warnings.simplefilter("ignore")
        application = hydra.initialize_config_dir(str(CONF), version_base=base)
    with application:
        before = GlobalHydra.instance().hydra
        assert compose_config("model=mup_limit", seed=3) == alone
        with ThreadPoolExecutor(4) as pool:
            configs = list(pool.map(lambda seed: compose_config(seed=seed), range(8)))
        assert [config.seed for config in configs] == list(range(8))
        assert GlobalHydra.instance().hydra is before and version.getbase() == Version(base)
    assert store.load("schema.yaml").node == {"own": 1}
    del store.repo["schema.yaml"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["corpus=text8", "model=mup_limit", "stream.architecture=skipgram"],
        [
            "corpus=file",
            "corpus.path='/a b/c=d'",
            "model.parametrization=custom",
            "model.exponents=[0,0,1,0,-1]",
        ],
    ],
)
def test_saved_options_come_back(overrides: list[str], tmp_path: Path) -> None:
    original = config_of(*overrides)
    compose.save(original, tmp_path / "config.yaml")
    assert compose.read(tmp_path / "config.yaml") == original


def test_options_of_an_older_version_are_translated(tmp_path: Path) -> None:
    """There 0 was the default, two options had other names, and batches followed the text."""
    path = tmp_path / "config.yaml"
    dense = "corpus: {name: planted}\nmodel: {name: mup_limit, storage: bfloat16, memory_gib: 0.0"
    path.write_text(f"{dense}, rank: 0, tolerance: 0.0}}\nnum_threads: 0\n")
    read = compose.read(path)
    assert read.model == MupLimit(dtype=Dtype.bfloat16) and read.num_threads is None
    assert read.stream.interleave == 1
    lowrank = dense.replace("bfloat16", "float32").replace("0.0", "0.5")
    path.write_text(f"{lowrank}, engine: lowrank, rank: 7, tolerance: 0.0}}\nnum_threads: 2\n")
    read = compose.read(path)
    assert read.model == MupLimit(engine=Engine.lowrank, rank=7, pair_table_gib=0.5)
    assert read.num_threads == 2


OUT_OF_RANGE = "corpus: {name: text8, min_count: 0}\nmodel: {name: finite}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "corpus: {name: nix}\nmodel: {name: finite}",
        "- 1",
        "model: 3\ncorpus: 4",
        OUT_OF_RANGE,
    ],
)
def test_damaged_saved_options(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="does not hold the options of a run"):
        compose.read(tmp_path / "config.yaml")
