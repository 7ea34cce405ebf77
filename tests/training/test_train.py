"""Training a run and asking it again: what a run folder holds, repeatability, and what is refused."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed import config_of
from hydra.core.override_parser.overrides_parser import OverridesParser

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate, format_evaluation
from w2v_inf.evaluation.limit_distance import limit_distance
from w2v_inf.files import read_json
from w2v_inf.models import memory_check
from w2v_inf.runs import weights
from w2v_inf.runs.folder import run_folder
from w2v_inf.runs.weights import open_run
from w2v_inf.training import train as train_stage

pytestmark = pytest.mark.slow  # trains whole runs or starts processes

WORDS = "paris france berlin germany madrid spain rome italy king queen man woman chicago illinois houston texas".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little text over analogy words and fillers."""
    rng = np.random.default_rng(0)
    words = np.array(WORDS + [f"w{i}" for i in range(14)])
    path = tmp_path_factory.mktemp("text") / "toy.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 60)) for _ in range(60)) + "\n")
    return path


@pytest.fixture
def options(text: Path, tmp_path: Path):
    """Compose a small run's config below tmp_path."""

    def compose(*overrides: str, run: str = "run") -> Config:
        small = ["stream.subsample_threshold=0", "train.epochs=2", "num_threads=1", "device=cpu"]
        where = [f"corpus.path={text}", f"data_dir={tmp_path}/data", f"run_dir={tmp_path}/{run}"]
        return config_of("corpus=file", *where, *small, *overrides)

    return compose


MODELS = [
    ["model.width=5"],
    ["model.width=5", "model.parametrization=sp", "train.lr=0.001", "model.output_init_scale=1"],
    ["model=ntk_limit"],
    ["model=mup_limit"],
    ["model=mup_limit", "model.dtype=bfloat16"],
    ["model=mup_limit", "model.output_init_scale=0.5"],
    ["model=ntk_limit", "model.output_init_scale=1"],
]


@pytest.mark.parametrize("architecture", ["cbow", "skipgram"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_folder_is_complete(model: list[str], architecture: str, options) -> None:
    config = options(*model, f"stream.architecture={architecture}")
    folder = train_stage.train(config)
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    progress = [line for line in lines if line["event"] == "progress"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "places.npz",
        "summary.json",
        "vocab.tsv",
    ]
    assert summary["vocab_size"] == 30 and summary["tokens"] == 3600
    assert [line["epoch"] for line in evaluations] == [0, 1, 2] and len(progress) >= 10
    assert (
        all(math.isfinite(line["loss"]) for line in progress)
        and summary["loss_nats"] < 26 * math.log(2) + 0.5
    )
    assert summary["wall_s"] > 0 and summary["cpu_s"] > 0 and summary["peak_rss_bytes"] > 1e7
    assert (
        progress[-1]["words_seen"] == 2 * summary["tokens_in_vocab"] and progress[-1]["epoch"] == 2
    )
    assert evaluations[-1]["elapsed_s"] == summary["wall_s"] and set(
        evaluations[0]["similarity"]
    ) == {"wordsim353", "simlex999"}
    assert (
        evaluations[-1]["analogy"]["total"] == summary["evaluation"]["analogy"]["3cosadd"]["total"]
    )


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_bits(model: list[str], options) -> None:
    one, two, other = (
        train_stage.train(options(*model, f"seed={seed}", f"train.epochs={epochs}", run=f"{name}"))
        for name, seed, epochs in (("a", 0, 1), ("b", 0, 1), ("c", 1, 1))
    )
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_loss_falls_and_ntk_stays_put(options) -> None:
    limit, ntk = (
        train_stage.train(options(f"model={m}", run=m)) for m in ("mup_limit", "ntk_limit")
    )
    first, *_, last = [
        json.loads(line)["loss"]
        for line in (limit / "metrics.jsonl").read_text().splitlines()
        if "progress" in line
    ]
    assert last < first
    ntk_accuracy = json.loads((ntk / "summary.json").read_text())["evaluation"]["analogy"][
        "3cosadd"
    ]["total"]
    assert ntk_accuracy["accuracy"] == 0 and ntk_accuracy["questions"] > 0


def test_a_finished_run_is_left_alone(options) -> None:
    folder = train_stage.train(options())
    before = (folder / "summary.json").stat().st_mtime_ns
    assert (
        train_stage.train(options()) == folder
        and (folder / "summary.json").stat().st_mtime_ns == before
    )


def test_an_unfinished_run_starts_anew(options) -> None:
    folder = train_stage.train(options())
    steps = [
        json.loads(line).get("step") for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    (folder / "summary.json").unlink()
    train_stage.train(options())
    assert [
        json.loads(line).get("step") for line in (folder / "metrics.jsonl").read_text().splitlines()
    ] == steps


def test_another_run_in_the_folder_is_not_overwritten(options) -> None:
    folder = train_stage.train(options())
    with pytest.raises(
        UserError, match="holds a run with other options \\(train.epochs: 2 there, 1 here\\)"
    ):
        train_stage.train(options("train.epochs=1"))
    assert (folder / "summary.json").exists()


def test_a_changed_text_is_noticed(options, text: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_text(text.read_text())
    train_stage.train(options(f"corpus.path={copy}"))
    copy.write_text(text.read_text() + "paris rome\n")
    with pytest.raises(UserError, match="holds a run on another text"):
        train_stage.train(options(f"corpus.path={copy}"))


def test_evaluating_again_gives_the_same(options, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_stage.train(options("model=mup_limit"))
    again = evaluate(options())
    assert again == json.loads((folder / "summary.json").read_text())["evaluation"]
    assert "3CosAdd" in capsys.readouterr().out
    assert evaluate(options("evaluate.embedding=sum"))["protocol"]["embedding"] == "sum"
    assert (folder / "evaluation-sum.json").exists()


def test_distance_to_the_limit(options) -> None:
    limit = train_stage.train(options("model=mup_limit", run="limit"))
    train_stage.train(options("model.width=8"))
    evaluate(options(f"evaluate.limit_run={limit}"))
    near = json.loads((run_folder(options()) / "summary.json").read_text())["limit_distance"]
    assert 0 < near["gram_error"] and 0 <= near["neighbour_overlap"] <= 1 and near["words"] == 30
    other = train_stage.train(options("corpus.max_vocab=20", "model=mup_limit", run="other"))
    with pytest.raises(UserError, match="evaluate.limit_run must have the vocabulary"):
        evaluate(options(f"evaluate.limit_run={other}"))
    with pytest.raises(
        UserError,
        match="evaluate.limit_run must be a run of model=mup_limit, .* holds model=finite",
    ):
        evaluate(options(f"evaluate.limit_run={run_folder(options())}"))


def test_limit_distance_by_hand() -> None:
    limit = torch.tensor([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1.0]], dtype=torch.float64)
    assert limit_distance(limit, limit) == {"gram_error": 0.0, "neighbour_overlap": 1.0, "words": 3}
    # A common component adds a constant to all cosines and is taken out.
    assert limit_distance(limit + 0.2, limit)["gram_error"] == pytest.approx(0, abs=1e-12)
    assert limit_distance(2 * limit, limit)["gram_error"] == pytest.approx(1)


def test_damaged_and_missing_run_files(options) -> None:
    with pytest.raises(UserError, match="summary.json not found"):
        evaluate(options())
    folder = train_stage.train(options())
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        open_run(folder, options())
    (folder / "summary.json").write_text("{")
    with pytest.raises(UserError, match="summary.json is damaged"):
        open_run(folder, options())


def test_divergence_stops_at_once(options) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step [\d,]+ .*lower train.lr"):
        train_stage.train(options("train.lr=1e20", "train.weight_decay=0"))
    # What failed does not stand in the way of the mended run.
    assert train_stage.train(options("train.lr=0.01")).exists()


def test_what_does_not_fit_memory_is_refused_before_it_is_allocated(
    options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        memory_check, "free_bytes", lambda device: memory_check.OVERHEAD_BYTES + 8 * 20**2
    )
    with pytest.raises(
        UserError, match=r"model=mup_limit needs .* for V=30, .*: corpus.max_vocab=\d+ fits"
    ):
        train_stage.train(options("model=mup_limit"))
    monkeypatch.setattr(
        memory_check, "free_bytes", lambda device: memory_check.OVERHEAD_BYTES + 4 * 30**2
    )
    with pytest.raises(
        UserError, match="free: model.dtype=bfloat16 fits, corpus.max_vocab=20 fits"
    ):
        train_stage.train(options("model=mup_limit"))
    memory_check.check_memory(
        options("model=mup_limit", "model.dtype=bfloat16").model, 30, torch.device("cpu")
    )
    assert not run_folder(options()).exists()
    fitting = memory_check.model_bytes(options("model=mup_limit").model, 20)
    assert fitting == 8 * 20**2


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no word|empty"), ("one one one", "at least 2 distinct words"), ("a b", "min_count")],
)
def test_useless_texts(content: str, message: str, options, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        train_stage.train(options(f"corpus.path={tmp_path}/bad.txt"))
    assert not (tmp_path / "run").exists()


def test_a_text_without_pairs(options, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a\nb\n" * 10)
    with pytest.raises(UserError, match="no two words that meet in a window"):
        train_stage.train(options(f"corpus.path={tmp_path}/short.txt"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1, 128, 300])
def test_batches_drawn_ahead_are_the_same(number: int) -> None:
    """In their order, in lists of one size but the last; one list ahead of the one in use, and no more."""
    drawn: list[int] = []

    def batches() -> Iterator[Any]:
        for k in range(number):
            drawn.append(k)
            yield k

    at_once = train_stage.BATCHES_AT_ONCE
    for ahead in (False, True):
        drawn.clear()
        lists = []
        for some in train_stage.batches_at_once(batches(), ahead):
            lists.append(some)
            assert len(drawn) <= at_once * (len(lists) + ahead)
        assert lists == [
            list(range(k, min(number, k + at_once))) for k in range(0, number, at_once)
        ]


def test_what_fails_while_batches_are_drawn_is_raised() -> None:
    def failing() -> Iterator[Any]:
        yield 0
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        list(train_stage.batches_at_once(failing(), ahead=True))


def test_no_space_left(options, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(UserError, match="model.safetensors cannot be written .*No space left"):
        train_stage.train(options())
    left = sorted(p.name for p in run_folder(options()).iterdir())
    assert left == ["config.yaml", "environment.json", "metrics.jsonl", "vocab.tsv"]


def test_default_run_folders_differ_whenever_options_do() -> None:
    points = [
        [],
        ["train.lr=0.1"],
        ["stream.architecture=skipgram"],
        ["model.width=64"],
        ["seed=1"],
        ["corpus.max_vocab=99"],
        ["model.parametrization=sp"],
        ["model=mup_limit"],
        ["model=mup_limit", "model.dtype=bfloat16"],
        ["model=mup_limit", "model.output_init_scale=1"],
        ["corpus=file", "corpus.path=/x/wiki.txt.xz"],
        ["model.parametrization=custom", "model.exponents=[0,0,1,0,-1]"],
    ]
    folders = [run_folder(config_of(*point)) for point in points]
    assert len(set(folders)) == len(points)
    assert [f.name for f in folders[:3]] == [
        "mup-256-seed0",
        "mup-256-seed0-lr_0.1",
        "mup-256-seed0",
    ]
    assert folders[-2].parent.name == "wiki-cbow"
    for folder in folders:
        assert OverridesParser.create().parse_override(f"run_dir={folder}").value() == str(
            folder
        )  # as typed, without quotes


def test_evaluation_table_lists_every_section(options) -> None:
    folder = train_stage.train(options())
    table = format_evaluation(read_json(folder / "summary.json")["evaluation"])
    assert table.count("\n") == 20 and "gram9-plural-verbs" in table and "simlex999" in table
