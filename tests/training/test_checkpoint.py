"""Interrupted runs resume with the same bits, whatever happened to their checkpoints."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import read_metrics, small_config

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.models.build import build_model
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs import weights
from w2v_inf.runs.folder import Summary, run_folder
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage
from w2v_inf.training.progress import Progress, log_evaluation

pytestmark = pytest.mark.slow  # trains whole runs or starts processes

MODELS = [
    ["model.width=5"],
    ["model=mup_limit"],
    ["model=mup_limit", "model.dtype=bfloat16"],
    ["model=mup_limit", "model.output_init_scale=0.5"],
    ["model=mup_limit", "model.engine=lowrank", "model.rank=5"],
    ["model=ntk_limit"],
    ["model=ntk_limit", "model.output_init_scale=1"],
]
TIMES = {"elapsed_s", "words_per_s", "rss_bytes"}
Outcome = tuple[bytes, bytes, list[dict[str, Any]], list[Any], list[str]]


class Killed(BaseException):
    """Stops a run like SIGKILL: nothing catches it."""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Composes a small run's config in tmp_path/run, with a checkpoint every 7 steps."""
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(train_stage, "BATCHES_AT_ONCE", 7)
    return partial(small_config, tmp_path, run="run")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of the default small run."""
    root = tmp_path_factory.mktemp("uninterrupted")
    return outcome(train_stage.train(small_config(root, run="run")))


def kill_at(step: int, config: Config) -> Path:
    """Train up to a step; returns the run folder."""
    count = Progress.count

    def counted(self: Progress, *args: Any) -> None:
        count(self, *args)
        if self.state.steps == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "count", counted)
        with pytest.raises(Killed):
            train_stage.train(config)
    return run_folder(config)


def outcome(folder: Path) -> Outcome:
    """Everything in a finished run but its times."""
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder)]
    summary = Summary.load(folder)
    numbers = [summary.evaluation, summary.loss_nats, summary.steps, summary.examples]
    names = sorted(path.name for path in folder.iterdir())
    model, groups = ((folder / n).read_bytes() for n in ("model.safetensors", "groups.npz"))
    return model, groups, lines, numbers, names


def steps_of(folder: Path) -> list[int]:
    """The steps of the folder's checkpoints."""
    paths = sorted(folder.glob("checkpoint-*.json"))
    return [int(path.stem.removeprefix("checkpoint-")) for path in paths]


@pytest.mark.parametrize("architecture", ["cbow", "skipgram"])
@pytest.mark.parametrize("model", MODELS)
def test_a_killed_run_ends_with_the_same_bits(
    model: list[str], architecture: str, options, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*model, f"stream.architecture={architecture}"]
    whole = outcome(train_stage.train(options(*overrides, run="whole")))
    folder = kill_at(40, options(*overrides))
    assert steps_of(folder) == [28, 35]
    # From here on the batches are grouped otherwise, which must not matter either.
    monkeypatch.setattr(train_stage, "BATCHES_AT_ONCE", 10)
    kill_at(40 + 113, options(*overrides))
    assert outcome(train_stage.train(options(*overrides))) == whole


def test_a_run_killed_between_its_epochs(
    options, uninterrupted: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(evaluation: dict[str, Any], progress: Progress, epoch: int, *rest: Any) -> None:
        if epoch:
            raise Killed
        log_evaluation(evaluation, progress, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "log_evaluation", killed)
        with pytest.raises(Killed):
            train_stage.train(options())
    assert steps_of(run_folder(options()))[-1] == 113
    assert outcome(train_stage.train(options())) == uninterrupted


@pytest.mark.parametrize(
    ("number", "stops"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_and_stops(
    number: int,
    stops: type,
    options,
    uninterrupted: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 3600.0)
    count = Progress.count

    def counted(self: Progress, *args: Any) -> None:
        count(self, *args)
        if self.state.steps == 40:
            signal.raise_signal(number)

    with monkeypatch.context() as patch, pytest.raises(stops) as stopped:
        patch.setattr(Progress, "count", counted)
        train_stage.train(options())
    assert getattr(stopped.value, "code", 130) in (130, 143)
    folder = run_folder(options())
    assert steps_of(folder) == [42]
    path = f"{folder}/checkpoint-{42:012d}.json"
    assert f"interrupted after step 42; {path}: the same command resumes from there" in caplog.text
    assert outcome(train_stage.train(options())) == uninterrupted


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "tensors cut": lambda path: cut(path.with_suffix(".safetensors")),
    "tensors edited": lambda path: flip(path.with_suffix(".safetensors")),
    "tensors gone": lambda path: path.with_suffix(".safetensors").unlink(),
    "JSON cut": cut,
    "JSON edited": lambda path: path.write_text(
        path.read_text().replace('"batches": ', '"batches": 1')
    ),
    "JSON empty": lambda path: path.write_text(""),
    "JSON of another kind": lambda path: path.write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, options, uninterrupted: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    folder = kill_at(40, options())
    caplog.set_level(logging.INFO)
    DAMAGES[damage](folder / f"checkpoint-{35:012d}.json")
    kill_at(31, options())
    assert "taking the checkpoint before it" in caplog.text and "resuming at step 28" in caplog.text
    assert steps_of(folder) == [28]
    DAMAGES[damage](folder / f"checkpoint-{28:012d}.json")
    assert outcome(train_stage.train(options())) == uninterrupted
    assert "no whole checkpoint: training starts from the beginning" in caplog.text


def test_metrics_that_were_cut_make_a_checkpoint_useless(options, uninterrupted: Outcome) -> None:
    folder = kill_at(40, options())
    size = json.loads((folder / f"checkpoint-{35:012d}.json").read_text())["metrics_bytes"]
    os.truncate(folder / "metrics.jsonl", size - 1)
    assert outcome(train_stage.train(options())) == uninterrupted


@pytest.mark.parametrize(
    "change", ["train.lr=0.04", "seed=1", "model.width=6", "model=mup_limit", "corpus.max_vocab=20"]
)
def test_another_run_does_not_resume_from_it(change: str, options) -> None:
    folder = kill_at(40, options())
    with pytest.raises(UserError, match="other options .* there, .* here.*train.resume=never"):
        train_stage.train(options(change))
    assert steps_of(folder) == [28, 35]
    train_stage.train(options(change, "train.resume=never"))
    assert steps_of(folder) == []


def test_another_text_does_not_resume_from_it(options, tmp_path: Path) -> None:
    folder = kill_at(40, options())
    (tmp_path / "toy.txt").write_text((tmp_path / "toy.txt").read_text() + "w1 w2\n")
    with pytest.raises(UserError, match="a run on another text .*train.resume=never"):
        train_stage.train(options())
    assert steps_of(folder) == [28, 35]


def test_times_add_up_and_other_threads_are_logged(
    options, caplog: pytest.LogCaptureFixture
) -> None:
    folder = kill_at(40, options())
    path = folder / f"checkpoint-{35:012d}.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    content["train_state"] |= {"wall_s": 1000.0, "cpu_s": 2000.0}
    path.write_text(json.dumps(content | {"sha256": checkpoint._content_sha256(content)}))
    train_stage.train(options("num_threads=2"))
    summary = Summary.load(folder)
    assert 1000 < summary.wall_s < 1100 and 2000 < summary.cpu_s < 2100
    assert "num_threads was 1 before and is 2 now" in caplog.text


def test_a_full_disk_costs_the_checkpoint_only(
    options,
    uninterrupted: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = kill_at(40, options())

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_file", full)
        kill_at(80, options())
    assert steps_of(folder) == [28, 35] and not list(folder.glob(".[0-9]*"))
    path = f"{folder}/checkpoint-{42:012d}.safetensors"
    reason = f"{path} cannot be written (No space left on device)"
    assert f"no checkpoint at step 42: {reason}" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", lambda *args: full(None, folder / ".1-draft"))
        kill_at(80, options())
    assert outcome(train_stage.train(options())) == uninterrupted


def test_little_space_drops_the_oldest_first(options, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kill_at(40, options())
    kept_while_writing = []
    write = weights.save_file

    def watched(tensors: Any, path: Path) -> None:
        kept_while_writing.append(steps_of(folder))
        write(tensors, path)

    usage = checkpoint.shutil.disk_usage(folder)
    monkeypatch.setattr(weights, "save_file", watched)
    kill_at(46, options())
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=100))
    kill_at(53, options())
    assert kept_while_writing == [[28, 35], [42]] and steps_of(folder) == [42, 49]


def test_half_written_checkpoints_are_cleared_away(options) -> None:
    folder = kill_at(40, options())
    (folder / ".123-checkpoint-000000000042.safetensors").write_bytes(b"half")
    (folder / "checkpoint-000000000042.safetensors").write_bytes(b"whole, but the JSON is missing")
    train_stage.train(options())
    assert not [path for path in folder.iterdir() if "checkpoint" in path.name]


def test_the_state_is_made_once_per_checkpoint(tmp_path: Path) -> None:
    """That of the low-rank limit copies the pair table."""
    made = []

    class Counting(LinearModel):
        def state(self) -> dict[str, torch.Tensor]:
            made.append(1)
            return super().state()

    (tmp_path / "metrics.jsonl").touch()
    model = Counting(torch.ones(3, 2), torch.ones(3, 2))
    manager = checkpoint.CheckpointManager(tmp_path, tmp_path / "metrics.jsonl", model, {})
    made.clear()
    assert manager.save({"steps": 1}) and len(made) == 1


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(
    options, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kill_at(40, options())
    train_batches = build_model(options(), 30).train_batches
    calls = []

    def diverging(self: Any, batches: Any) -> list[float]:
        losses = train_batches(batches)
        calls.append(len(batches))
        # The tensors are infinite first; the loss shows it one call later.
        self.u[0, 0] = torch.inf
        return losses if len(calls) == 1 else [torch.nan] * len(losses)

    monkeypatch.setattr(build_model(options(), 30).__class__, "train_batches", diverging)
    with pytest.raises(UserError, match=r"the loss is nan at step 43 .*the last checkpoint"):
        train_stage.train(options())
    assert steps_of(folder) == [28, 35] and not (folder / "summary.json").exists()


def test_the_interval_grows_with_the_cost(
    options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now, saved = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 60.0)
    monkeypatch.setattr(checkpoint, "SHARE", 0.02)

    def costly(*args: Any) -> Path:
        saved.append(now[0])
        now[0] += 6.0
        return tmp_path

    monkeypatch.setattr(checkpoint, "save", costly)
    manager = checkpoint.CheckpointManager(tmp_path, tmp_path, build_model(options(), 30), {})
    for second in range(2000):
        now[0] = max(now[0], float(second))
        if manager.is_due():
            manager.save({"steps": second})
    # The first after the shortest interval; then 6 s of writing in every 300 s are 2 %.
    assert saved == [60.0, 366.0, 672.0, 978.0, 1284.0, 1590.0, 1896.0]


def test_drafts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """safetensors fills a file whose name it does not promise: kill it until one is left."""
    metrics = tmp_path / "metrics.jsonl"
    metrics.touch()
    model = LinearModel(torch.zeros(1, 1), torch.zeros(1, 1))
    checkpoint.save(tmp_path, model, {"steps": 1}, metrics, {})
    kept = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".77-checkpoint-1.json").touch()
    program = (
        "import sys, torch; from safetensors.torch import save_file\n"
        "tensors = {'a': torch.zeros(3000, 1000)}\n"
        "print(flush=True)\n"
        "while True: save_file(tensors, sys.argv[1])"
    )
    for _ in range(20):
        command = [sys.executable, "-c", program, str(tmp_path / "x")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.05)
            writer.kill()
        (tmp_path / "x").unlink(missing_ok=True)
        if len(list(tmp_path.iterdir())) > len(kept) + 1:
            break
    else:
        pytest.fail("no kill left a file behind")
    checkpoint.remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
