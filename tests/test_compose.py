"""Command lines and files become options: what is rejected and how, what is saved and read."""

from pathlib import Path

import pytest
from composed import config_of
from hydra.errors import HydraException

from w2v_inf import compose
from w2v_inf.compose import compose_config, quote
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


@pytest.mark.parametrize("text", ["a/b.txt", "a b=c", 'say "x"', "{a: b}", "$x, [y]"])
def test_a_quoted_text_comes_back(text: str) -> None:
    assert compose_config(run_dir=text).run_dir == text
    assert compose_config(**{"plot.runs": [text, "z"]}).plot.runs == [text, "z"]
    assert quote([None, 1.5, True]) == "[null,1.5,True]"


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
