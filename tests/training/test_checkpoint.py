"""Interrupted runs: gone on from to the same bits, whatever happened to the checkpoints meanwhile."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.config import PROJECT_ROOT, Config
from w2v_inf.errors import UserError
from w2v_inf.files import read_json
from w2v_inf.models.build import build_model
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs import weights
from w2v_inf.runs.folder import lock, run_folder
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage
from w2v_inf.training.progress import Progress, log_evaluation
from w2v_inf.training.signals import catch_signals

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


class Killed(BaseException):
    """What a test stops a run with: nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "toy.txt"
    path.write_text(
        "\n".join(" ".join(f"w{i}" for i in rng.integers(0, 30, 60)) for _ in range(60)) + "\n"
    )
    return path


@pytest.fixture
def options(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Compose a small run's config below tmp_path; it has 113 steps an epoch and checkpoints every 7."""
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(train_stage, "BATCHES_AT_ONCE", 7)

    def compose(*overrides: str, run: str = "run") -> Config:
        small = [
            "stream.subsample_threshold=0",
            "train.epochs=2",
            "num_threads=1",
            "device=cpu",
            "corpus=file",
            f"corpus.path={text}",
        ]
        return config_of(
            *small, f"data_dir={tmp_path}/data", f"run_dir={tmp_path}/{run}", *overrides
        )

    return compose


def kill_at(step: int, config: Config) -> Path:
    """Train until so many steps were counted."""
    count = Progress.count

    def counted(self: Progress, *args: Any) -> None:
        count(self, *args)
        if self.tally.steps == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "count", counted)
        with pytest.raises(Killed):
            train_stage.train(config)
    return run_folder(config)


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]], Any, list[str]]:
    """All of a finished run but its times."""
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in metrics]
    summary = json.loads((folder / "summary.json").read_text())
    numbers = [summary[key] for key in ("evaluation", "loss_nats", "steps", "examples")]
    return (
        (folder / "model.safetensors").read_bytes(),
        lines,
        numbers,
        sorted(path.name for path in folder.iterdir()),
    )


def steps_of(folder: Path) -> list[int]:
    """The steps that the folder has checkpoints of."""
    return [
        int(path.stem.removeprefix("checkpoint-"))
        for path in sorted(folder.glob("checkpoint-*.json"))
    ]


@pytest.mark.parametrize("architecture", ["cbow", "skipgram"])
@pytest.mark.parametrize("model", MODELS)
def test_a_killed_run_ends_with_the_same_bits(
    model: list[str], architecture: str, options, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*model, f"stream.architecture={architecture}"]
    peaceful = outcome(train_stage.train(options(*overrides, run="peaceful")))
    folder = kill_at(40, options(*overrides))
    assert steps_of(folder) == [28, 35]
    # Calls are cut elsewhere from here on: that must not matter either.
    monkeypatch.setattr(train_stage, "BATCHES_AT_ONCE", 10)
    kill_at(40 + 113, options(*overrides))
    assert outcome(train_stage.train(options(*overrides))) == peaceful


def test_a_run_killed_between_its_epochs(options, monkeypatch: pytest.MonkeyPatch) -> None:
    peaceful = outcome(train_stage.train(options(run="peaceful")))

    def killed(evaluation: dict[str, Any], meter: Progress, epoch: int, *rest: Any) -> None:
        if epoch:
            raise Killed
        log_evaluation(evaluation, meter, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "log_evaluation", killed)
        with pytest.raises(Killed):
            train_stage.train(options())
    assert steps_of(run_folder(options()))[-1] == 113
    assert outcome(train_stage.train(options())) == peaceful


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
    damage: str, options, caplog: pytest.LogCaptureFixture
) -> None:
    peaceful = outcome(train_stage.train(options(run="peaceful")))
    folder = kill_at(40, options())
    caplog.set_level(logging.INFO)
    DAMAGES[damage](folder / f"checkpoint-{35:012d}.json")
    kill_at(31, options())
    assert "taking the checkpoint before it" in caplog.text and "going on at step 28" in caplog.text
    assert steps_of(folder) == [28]
    DAMAGES[damage](folder / f"checkpoint-{28:012d}.json")
    assert outcome(train_stage.train(options())) == peaceful
    assert "no whole checkpoint: starting anew" in caplog.text


def test_metrics_that_were_cut_make_a_checkpoint_useless(options) -> None:
    peaceful = outcome(train_stage.train(options(run="peaceful")))
    folder = kill_at(40, options())
    size = json.loads((folder / f"checkpoint-{35:012d}.json").read_text())["metrics_bytes"]
    os.truncate(folder / "metrics.jsonl", size - 1)
    assert outcome(train_stage.train(options())) == peaceful


@pytest.mark.parametrize(
    "change", ["train.lr=0.04", "seed=1", "model.width=6", "model=mup_limit", "corpus.max_vocab=20"]
)
def test_another_run_does_not_go_on_from_it(change: str, options) -> None:
    folder = kill_at(40, options())
    with pytest.raises(
        UserError, match=f"other options .* there, .* here.*{'|'.join(['train.resume=never'])}"
    ):
        train_stage.train(options(change))
    assert steps_of(folder) == [28, 35]
    train_stage.train(options(change, "train.resume=never"))
    assert steps_of(folder) == []


def test_another_text_does_not_go_on_from_it(options, text: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_text(text.read_text())
    kill_at(40, options(f"corpus.path={copy}"))
    copy.write_text(text.read_text() + "w1 w2\n")
    with pytest.raises(UserError, match="a run on another text .*train.resume=never"):
        train_stage.train(options(f"corpus.path={copy}"))


def test_times_go_on_and_other_threads_are_said(options, caplog: pytest.LogCaptureFixture) -> None:
    folder = kill_at(40, options())
    path = folder / f"checkpoint-{35:012d}.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    content["tally"]["wall_s"], content["tally"]["cpu_s"] = 1000.0, 2000.0
    path.write_text(json.dumps(content | {"sha256": checkpoint._content_sha256(content)}))
    train_stage.train(options("num_threads=2"))
    summary = read_json(folder / "summary.json")
    assert 1000 < summary["wall_s"] < 1100 and 2000 < summary["cpu_s"] < 2100
    assert "num_threads was 1 until there and is 2 now" in caplog.text


@pytest.mark.parametrize(
    ("number", "stops"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_and_stops(
    number: int, stops: type, options, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    caplog.set_level(logging.INFO)
    peaceful = outcome(train_stage.train(options(run="peaceful")))
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 3600.0)
    count = Progress.count

    def counted(self: Progress, *args: Any) -> None:
        count(self, *args)
        if self.tally.steps == 40:
            signal.raise_signal(number)

    with monkeypatch.context() as patch, pytest.raises(stops) as stopped:
        patch.setattr(Progress, "count", counted)
        train_stage.train(options())
    assert getattr(stopped.value, "code", 130) in (130, 143)
    folder = run_folder(options())
    assert steps_of(folder) == [42]
    assert (
        f"interrupted after step 42; {folder}/checkpoint-000000000042.json: the same command goes on from there"
        in caplog.text
    )
    assert outcome(train_stage.train(options())) == peaceful


def test_a_second_ctrl_c_acts_at_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), catch_signals() as noted:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # behind a Ctrl-C it waits with it
        assert noted.number == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was swallowed")
    with pytest.raises(SystemExit) as stopped, catch_signals():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_scripts_exit_with_the_signals_code(
    number: int, code: int, text: Path, tmp_path: Path
) -> None:
    options = [
        "corpus=file",
        f"corpus.path={text}",
        f"data_dir={tmp_path}/data",
        f"run_dir={tmp_path}/run",
        "train.epochs=10000",
    ]
    command = [
        sys.executable,
        str(PROJECT_ROOT / "scripts" / "train.py"),
        *options,
        "num_threads=1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        metrics = tmp_path / "run" / "metrics.jsonl"
        for _ in range(600):
            if metrics.exists() and "progress" in metrics.read_text():
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert "the same command goes on from there" in log.splitlines()[-1] and "Traceback" not in log
    assert len(steps_of(tmp_path / "run")) == 1


def test_a_full_disk_costs_the_checkpoint_only(
    options, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peaceful = outcome(train_stage.train(options(run="peaceful")))
    kill_at(40, options())
    folder = run_folder(options())

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_file", full)
        kill_at(80, options())
    assert steps_of(folder) == [28, 35] and not list(folder.glob(".[0-9]*"))
    line = f"no checkpoint at step 42: {folder}/checkpoint-000000000042.safetensors cannot be written (No space left on device)"
    assert line in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", lambda *args: full(None, folder / ".1-draft"))
        kill_at(80, options())
    assert outcome(train_stage.train(options())) == peaceful


def test_little_space_drops_the_oldest_first(options, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kill_at(40, options())
    kept_while_writing = []
    write = weights.save_file

    def watched(state: Any, path: Path) -> None:
        kept_while_writing.append(steps_of(folder))
        write(state, path)

    usage = checkpoint.shutil.disk_usage(folder)
    monkeypatch.setattr(weights, "save_file", watched)
    kill_at(46, options())
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=100))
    kill_at(53, options())
    assert kept_while_writing == [[28, 35], [42]] and steps_of(folder) == [42, 49]


def test_what_a_killed_writer_left_is_cleared_away(options) -> None:
    folder = kill_at(40, options())
    (folder / ".123-checkpoint-000000000042.safetensors").write_bytes(b"half")
    (folder / "checkpoint-000000000042.safetensors").write_bytes(b"whole, but the JSON is missing")
    train_stage.train(options())
    assert not [path for path in folder.iterdir() if "checkpoint" in path.name]


def test_only_one_process_trains_in_a_folder(options) -> None:
    folder = run_folder(options())
    with (
        lock(folder),
        pytest.raises(UserError, match=f"another process is training in run_dir={folder}"),
    ):
        train_stage.train(options())
    assert train_stage.train(options()) == folder


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(
    options, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(40, options())
    folder = run_folder(options())
    train_batches = build_model(options(), 30).train_batches
    calls = []

    def diverging(self: Any, batches: Any) -> list[float]:
        losses = train_batches(batches)
        calls.append(len(batches))
        # Sick tensors first, whose loss is seen one call later.
        self.u[0, 0] = torch.inf
        return losses if len(calls) == 1 else [torch.nan] * len(losses)

    monkeypatch.setattr(build_model(options(), 30).__class__, "train_batches", diverging)
    with pytest.raises(UserError, match=r"the loss is nan at step 43 .*the last checkpoint"):
        train_stage.train(options())
    assert steps_of(folder) == [28, 35] and not (folder / "summary.json").exists()


def test_checkpoints_are_as_far_apart_as_they_cost(
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
    keeper = checkpoint.CheckpointManager(tmp_path, tmp_path, build_model(options(), 30), {})
    for second in range(2000):
        now[0] = max(now[0], float(second))
        if keeper.is_due():
            keeper.save({"steps": second})
    # The first after the shortest interval; then 6 s of writing in every 300 s are 2 %.
    assert saved == [60.0, 366.0, 672.0, 978.0, 1284.0, 1590.0, 1896.0]


def test_what_killed_writers_leave_is_removed(tmp_path: Path) -> None:
    """safetensors has a temporary file of its own, whose name it does not promise: kill it until one is left."""
    (tmp_path / "metrics.jsonl").touch()
    checkpoint.save(
        tmp_path,
        LinearModel(torch.zeros(1, 1), torch.zeros(1, 1)),
        {"steps": 1},
        tmp_path / "metrics.jsonl",
        {},
    )
    kept = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".77-checkpoint-1.json").touch()
    setup = "import sys, torch; from safetensors.torch import save_file; tensors = {'a': torch.zeros(3000, 1000)}"
    loop = "print(flush=True)\nwhile True: save_file(tensors, sys.argv[1])"
    for _ in range(20):
        command = [sys.executable, "-c", f"{setup}\n{loop}", str(tmp_path / "x")]
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
