"""Training: the content of a run folder, repeatability, and what is refused."""

import math
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from composed import config_of
from small_runs import read_metrics, small_config
from toy import toy_batch

from w2v_inf import compose
from w2v_inf.config import PROJECT_ROOT, Config
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.prepare import prepare
from w2v_inf.errors import UserError
from w2v_inf.models import memory_check
from w2v_inf.runs import weights
from w2v_inf.runs.folder import Summary, lock, run_folder
from w2v_inf.stream import Batch
from w2v_inf.training import train as train_stage

pytestmark = pytest.mark.slow  # trains whole runs or starts processes

MODELS = [
    ["model.width=5"],
    ["model.width=5", "model.parametrization=sp", "train.lr=0.001", "model.output_init_scale=1"],
    ["model=ntk_limit"],
    ["model=mup_limit"],
    ["model=mup_limit", "model.dtype=bfloat16"],
    ["model=mup_limit", "model.output_init_scale=0.5"],
    ["model=ntk_limit", "model.output_init_scale=1"],
]
FILES = [
    "config.yaml",
    "environment.json",
    "groups.npz",
    "metrics.jsonl",
    "model.safetensors",
    "places.npz",
    "summary.json",
    "vocab.tsv",
]
UNFINISHED = [name for name in FILES if name.split(".")[0] not in ("model", "places", "summary")]
TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 40


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Config]:
    """Composes a small run's config in tmp_path/run."""
    return partial(small_config, tmp_path, run="run")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Composes the config of a run that tests share and do not change."""
    return partial(small_config, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def trained(shared: Callable[..., Config]) -> Callable[..., Path]:
    """Trains a shared run once; returns its folder."""
    return cache(lambda *overrides: train_stage.train(shared(*overrides)))


@pytest.mark.parametrize("architecture", ["cbow", "skipgram"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_folder_is_complete(model: list[str], architecture: str, trained) -> None:
    folder = trained(*model, f"stream.architecture={architecture}")
    summary, lines = Summary.load(folder), read_metrics(folder)
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    progress = [line for line in lines if line["event"] == "progress"]
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert summary.vocab_size == 30 and summary.tokens == 3600
    assert [line["epoch"] for line in evaluations] == [0, 1, 2] and len(progress) >= 10
    assert all(math.isfinite(line["loss"]) for line in progress)
    assert summary.loss_nats < 26 * math.log(2) + 0.5
    assert summary.wall_s > 0 and summary.cpu_s > 0 and summary.peak_rss_bytes > 1e7
    assert progress[-1]["words_seen"] == 2 * summary.tokens_in_vocab and progress[-1]["epoch"] == 2
    assert evaluations[-1]["elapsed_s"] == summary.wall_s
    assert set(evaluations[0]["similarity"]) == {"wordsim353", "simlex999"}
    total = summary.evaluation["analogy"]["3cosadd"]["total"]
    assert evaluations[-1]["analogy"]["total"] == total


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_bits(model: list[str], trained, options) -> None:
    one = trained(*model, "stream.architecture=cbow")
    two = train_stage.train(options(*model, run="again"))
    other = train_stage.train(options(*model, "seed=1", run="other"))
    bits = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]
    assert bits[0] == bits[1] != bits[2]


def test_loss_falls_and_ntk_stays_put(trained) -> None:
    limit, ntk = (
        trained(f"model={name}", "stream.architecture=cbow") for name in ("mup_limit", "ntk_limit")
    )
    losses = [line["loss"] for line in read_metrics(limit) if line["event"] == "progress"]
    assert losses[-1] < losses[0]
    total = Summary.load(ntk).evaluation["analogy"]["3cosadd"]["total"]
    assert total["accuracy"] == 0 and total["questions"] > 0


def test_a_finished_run_is_left_alone(shared, trained) -> None:
    overrides = ("model.width=5", "stream.architecture=cbow")
    folder = trained(*overrides)
    before = (folder / "summary.json").stat().st_mtime_ns
    assert train_stage.train(shared(*overrides)) == folder
    assert (folder / "summary.json").stat().st_mtime_ns == before


def test_an_unfinished_run_without_checkpoints_is_trained_again(trained, options) -> None:
    finished = trained("model.width=5", "stream.architecture=cbow")
    folder = run_folder(options())
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    train_stage.train(options("model.width=5"))
    steps = [[line.get("step") for line in read_metrics(path)] for path in (finished, folder)]
    assert steps[0] == steps[1]


def test_another_run_in_the_folder_is_not_overwritten(shared, trained) -> None:
    folder = trained("model.width=5", "stream.architecture=cbow")
    with pytest.raises(
        UserError, match=r"holds a run with other options \(train.epochs: 2 there, 1 here\)"
    ):
        train_stage.train(shared("model.width=5", "train.epochs=1", f"run_dir={folder}"))
    assert (folder / "summary.json").exists()


def test_a_changed_text_is_noticed(options, tmp_path: Path) -> None:
    train_stage.train(options())
    text = tmp_path / "toy.txt"
    text.write_text(text.read_text() + "paris rome\n")
    with pytest.raises(UserError, match="holds a run on another text"):
        train_stage.train(options())


def test_only_one_process_trains_in_a_folder(options) -> None:
    folder = run_folder(options())
    message = f"another process is training in run_dir={folder}"
    with lock(folder), pytest.raises(UserError, match=message):
        train_stage.train(options())
    assert train_stage.train(options()) == folder


def test_divergence_stops_at_once(options) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step [\d,]+ .*lower train.lr"):
        train_stage.train(options("train.lr=1e20", "train.weight_decay=0"))
    # The failed run does not stand in the way of the corrected one.
    assert train_stage.train(options("train.lr=0.01")).exists()


def test_a_model_beyond_the_memory_is_refused_before_it_is_allocated(
    options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(num_bytes: int) -> None:
        total = memory_check.OVERHEAD_BYTES + num_bytes
        monkeypatch.setattr(memory_check, "free_bytes", lambda device: total)

    free(8 * 20**2)
    with pytest.raises(
        UserError, match=r"model=mup_limit needs .* for V=30, .*: corpus.max_vocab=\d+ fits"
    ):
        train_stage.train(options("model=mup_limit"))
    free(4 * 30**2)
    with pytest.raises(
        UserError, match="free: model.dtype=bfloat16 fits, corpus.max_vocab=20 fits"
    ):
        train_stage.train(options("model=mup_limit"))
    half = options("model=mup_limit", "model.dtype=bfloat16").model
    memory_check.check_memory(half, 30, torch.device("cpu"))
    assert not run_folder(options()).exists()
    assert memory_check.model_bytes(options("model=mup_limit").model, 20) == 8 * 20**2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no word|empty"),
        ("one one one", "at least 2 distinct words"),
        ("a b", "min_count"),
        ("a\nb\n" * 10, "no two words in one window"),
    ],
)
def test_useless_texts(content: str, message: str, options, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        train_stage.train(options(f"corpus.path={tmp_path}/bad.txt"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1, 128, 300])
def test_prefetched_batches_are_the_same(number: int) -> None:
    """In order, in lists of one size but the last; at most one list ahead of the one in use."""
    batches = [toy_batch(k, 7, 5, 4, 3, 1) for k in range(number)]
    drawn: list[int] = []

    def draw() -> Iterator[Batch]:
        for k, batch in enumerate(batches):
            drawn.append(k)
            yield batch

    at_once = train_stage.BATCHES_AT_ONCE
    for prefetch in (False, True):
        drawn.clear()
        lists: list[list[Batch]] = []
        for some in train_stage.group_batches(draw(), prefetch):
            lists.append(some)
            assert len(drawn) <= at_once * (len(lists) + prefetch)
        expected = [batches[k : k + at_once] for k in range(0, number, at_once)]
        assert [list(map(id, some)) for some in lists] == [list(map(id, x)) for x in expected]


def test_an_error_while_batches_are_prefetched_is_raised() -> None:
    def failing() -> Iterator[Batch]:
        yield toy_batch(0, 7, 5, 4, 3, 1)
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        list(train_stage.group_batches(failing(), prefetch=True))


def test_no_space_left(options, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(UserError, match="model.safetensors cannot be written .*No space left"):
        train_stage.train(options())
    assert sorted(path.name for path in run_folder(options()).iterdir()) == UNFINISHED


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Options of a run of seconds, for the script."""
    (tmp_path / "toy.txt").write_text(TEXT)
    where = [f"corpus.path={tmp_path}/toy.txt", f"data_dir={tmp_path}/data"]
    small = ["stream.subsample_threshold=0", "train.epochs=1", "num_threads=1", "device=cpu"]
    return ["corpus=file", *where, f"run_dir={tmp_path}/run", *small]


def start(*arguments: str, file_bytes: int | None = None) -> subprocess.Popen[str]:
    """scripts/train.py, which can write no file of more than `file_bytes`, as on a full disk."""
    limits = (file_bytes, file_bytes)
    limit = None if file_bytes is None else partial(resource.setrlimit, resource.RLIMIT_FSIZE)
    return subprocess.Popen(
        [sys.executable, str(PROJECT_ROOT / "scripts" / "train.py"), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit and partial(limit, limits),
    )


def test_a_model_that_finds_no_space_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    with start(*arguments, "model.width=100000", file_bytes=4 << 20) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in log
    assert log.splitlines()[-1].startswith(
        f"train.py: {tmp_path}/run/model.safetensors cannot be written"
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == UNFINISHED
    with start(*arguments, "model.width=100000") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log


def test_simultaneous_runs_share_a_cache_and_not_a_folder(
    arguments: list[str], tmp_path: Path
) -> None:
    runs = [start(*arguments, f"run_dir={tmp_path}/run{n}", f"seed={n}") for n in range(3)]
    logs = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], logs
    assert len(os.listdir(tmp_path / "data")) == 1
    assert len({Summary.load(tmp_path / f"run{n}").corpus_checksum for n in range(3)}) == 1


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder with a cached corpus that this process may not write; root becomes another user."""
    root = Path(tempfile.mkdtemp())
    (root / "toy.txt").write_text(TEXT)
    prepare(config_of("corpus=file", f"corpus.path={root}/toy.txt").corpus, root / "data")
    (root / "other.txt").write_text(TEXT * 2)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield root
    finally:
        os.seteuid(user)
        for path in (root, *root.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR | stat.S_IXUSR)
        shutil.rmtree(root)


def test_a_read_only_cache_serves_what_it_has(read_only: Path) -> None:
    def config(name: str) -> Config:
        where = [f"data_dir={read_only}/data", f"run_dir={read_only}/run"]
        return config_of("corpus=file", f"corpus.path={read_only}/{name}.txt", *where)

    corpus = open_corpus(prepare(config("toy").corpus, read_only / "data"))
    assert len(corpus.tokens) == len(TEXT.split())
    with pytest.raises(
        UserError, match=r"data_dir: cannot write .*Permission denied: choose another data_dir"
    ):
        prepare(config("other").corpus, read_only / "data")
    with pytest.raises(UserError, match=r"run_dir=.* cannot be written \(Permission denied\)"):
        train_stage.train(config("toy"))


def test_a_cache_with_edited_tokens_is_refused(arguments: list[str], tmp_path: Path) -> None:
    folder = prepare(config_of(*arguments).corpus, tmp_path / "data")
    tokens = bytearray((folder / "tokens.bin").read_bytes())
    tokens[7] = 0x80  # an id far below zero
    (folder / "tokens.bin").write_bytes(tokens)
    with pytest.raises(UserError, match=r"tokens.bin must have sha256 .*: delete the folder"):
        train_stage.train(config_of(*arguments))
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_has_finished_meanwhile_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duplicate job waits for the corpus while the first one trains."""
    config = small_config(tmp_path, "train.epochs=1", run="run")
    folder = train_stage.train(small_config(tmp_path, "train.epochs=1", run="first"))

    @contextmanager
    def finish_meanwhile(path: Path) -> Iterator[None]:
        folder.rename(path)
        compose.save(config, path / "config.yaml")
        yield

    def refuse(*args: object) -> None:
        pytest.fail("trained again")

    monkeypatch.setattr(train_stage, "lock", finish_meanwhile)
    monkeypatch.setattr(train_stage, "train_model", refuse)
    assert train_stage.train(config) == tmp_path / "run"
