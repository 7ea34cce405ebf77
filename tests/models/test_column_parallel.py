"""Columns over several processes against one: steps, inner products, files, lost processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shard_worker
import torch
from safetensors.torch import load_file
from toy import PLAIN, SHAPES, toy_batch

from w2v_inf import distributed
from w2v_inf.config import PROJECT_ROOT
from w2v_inf.errors import UserError
from w2v_inf.models.column_parallel import ColumnShard, shard_steps
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs.weights import save_model

TESTS = Path(__file__).parents[1]
LIMIT_S = 240.0


def torchrun(num_processes: int, *command: object) -> subprocess.Popen[str]:
    """Start a job of so many processes on this machine; one needs no launcher."""
    launcher = [sys.executable]
    if num_processes > 1:
        standalone = ["--standalone", f"--nproc-per-node={num_processes}"]
        launcher += ["-m", "torch.distributed.run", *standalone]
    environment = os.environ | {
        "PYTHONPATH": f"{PROJECT_ROOT}{os.pathsep}{TESTS}",
        "OMP_NUM_THREADS": "1",
    }
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*launcher, *map(str, command)], env=environment, text=True, **pipes)


def finish(job: subprocess.Popen[str]) -> str:
    """Wait for a job; its output."""
    try:
        said, _ = job.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        job.kill()
        raise
    return said


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", [1, 3, 64])
def test_two_phases_equal_one(shape: tuple[int, ...], tile: int) -> None:
    """One shard: the step in two calls, with the sum between them, has the bits of `sgd_steps`."""
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.randn(shape[0], 7, generator=generator, dtype=torch.float64) for _ in "uw")
    part = LinearModel(u.clone(), w.clone(), PLAIN)
    batches = [toy_batch(seed, *shape) for seed in range(3)]
    sums = []
    losses = shard_steps(part, batches, lambda f: sums.append(f) or f, tile)
    assert losses == sgd_steps(u, w, batches, PLAIN, tile=tile).tolist() and len(sums) == 3
    assert torch.equal(part.u, u) and torch.equal(part.w, w)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_equal_one(num_processes: int, tmp_path: Path) -> None:
    """Losses, tensors, inner products and hits to rounding; odd widths, V = 2 and V = 3 too."""
    said = finish(job := torchrun(num_processes, TESTS / "models" / "shard_worker.py", tmp_path))
    assert job.returncode == 0, said
    for name, case in shard_worker.cases():
        alone = shard_worker.outcome(case, tmp_path / "alone.safetensors")
        tensors, expected = (
            load_file(tmp_path / f"{file}.safetensors") for file in (name, "alone")
        )
        assert tensors.keys() == expected.keys()
        # The random bits of bfloat16 depend on a column's index in its shard: an entry lands on
        # one neighbour or the other.
        close = (
            {"rtol": 1e-10, "atol": 1e-12}
            if case["dtype"] is torch.float64
            else {"rtol": 0.05, "atol": 0.05}
        )
        for key, tensor in tensors.items():
            assert tensor.shape == expected[key].shape and tensor.dtype == expected[key].dtype
            torch.testing.assert_close(tensor, expected[key], **close)
        found = np.load(tmp_path / f"{name}.npz")
        for key, value in alone.items():
            if key != "hits" or case["dtype"] is torch.float64:
                np.testing.assert_allclose(found[key], value, err_msg=f"{name}: {key}", **close)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A little random text over analogy words and fillers."""
    rng = np.random.default_rng(0)
    words = np.array(
        [
            *"paris france berlin germany madrid spain rome italy".split(),
            *(f"w{i}" for i in range(40)),
        ]
    )
    path = tmp_path / "toy.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 60)) for _ in range(500)) + "\n")
    return path


def train_command(text: Path, run: str, *options: str) -> list[str]:
    where = [
        "corpus=file",
        f"corpus.path={text}",
        f"data_dir={text.parent}/data",
        f"run_dir={text.parent}/{run}",
    ]
    usual = [
        "model=mup_limit",
        "device=cpu",
        "num_threads=1",
        "stream.subsample_threshold=0",
        *options,
    ]
    return [str(PROJECT_ROOT / "scripts" / "train.py"), *where, *usual]


def wait_for_progress(job: subprocess.Popen[str], folder: Path) -> None:
    """Until the job has logged progress once more."""
    metrics, start = folder / "metrics.jsonl", time.monotonic()
    before = metrics.read_text().count('"progress"') if metrics.exists() else 0
    while not metrics.exists() or metrics.read_text().count('"progress"') <= before:
        assert job.poll() is None and time.monotonic() - start < LIMIT_S, "the job made no progress"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Processes that a process has started, oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_job_stops_loses_a_process_and_ends_over_others(text: Path) -> None:
    """SIGTERM keeps a checkpoint; a killed process ends the job in one line.

    One process then ends the run as an uninterrupted one would.
    """
    options = "train.epochs=6", "stream.batch_size=4"
    command, folder = train_command(text, "run", *options), text.parent / "run"
    wait_for_progress(job := torchrun(2, *command), folder)
    job.send_signal(signal.SIGTERM)
    said = finish(job)
    assert job.returncode != 0 and "the same command resumes from there" in said, said
    assert len(list(folder.glob("checkpoint-*.json"))) == 1

    wait_for_progress(job := torchrun(3, *command), folder)
    os.kill(children(job.pid)[-1], signal.SIGKILL)
    start = time.monotonic()
    said = finish(job)
    assert time.monotonic() - start < 60 and job.returncode != 0
    assert "resuming at step" in said and "num_processes was 2 before and is 3 now" in said
    assert (
        "a process of this job has ended or cannot be reached" in said
        and "Traceback (most recent call last)" not in said.split("torch/")[0]
    )

    alone = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert "resuming at step" in alone.stderr
    other = train_command(text, "uninterrupted", *options)
    subprocess.run([sys.executable, *other], capture_output=True, timeout=LIMIT_S, check=True)
    tensors, expected = (
        load_file(text.parent / name / "model.safetensors") for name in ("run", "uninterrupted")
    )
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-4)
    assert not list(folder.glob("checkpoint-*"))


def test_a_full_disk_leaves_no_process_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the main process cannot write, it still takes part in gathering every block."""
    model = ColumnShard(LinearModel(torch.zeros(2500, 3), torch.zeros(2500, 3)), 3)
    gathered = []
    monkeypatch.setattr(
        distributed, "gather_columns", lambda part, total: gathered.append(len(part)) or part
    )
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_model(tmp_path / "file" / "model.safetensors", model)
    assert gathered == [1024, 1024, 452] * 2


@pytest.mark.slow
def test_stages_over_two_processes(text: Path) -> None:
    """A whole run and its evaluation: the main process's files, and the numbers of one process."""
    for run, num_processes in (("one", 1), ("two", 2)):
        said = finish(job := torchrun(num_processes, *train_command(text, run, "train.epochs=1")))
        assert job.returncode == 0, said
        evaluate = [
            PROJECT_ROOT / "scripts" / "evaluate.py",
            f"run_dir={text.parent}/{run}",
            "device=cpu",
            "evaluate.embedding=sum",
        ]
        said = finish(job := torchrun(num_processes, *evaluate))
        assert job.returncode == 0 and said.count("3CosAdd") == 1, said
    one, two = (
        json.loads((text.parent / run / "summary.json").read_text()) for run in ("one", "two")
    )
    assert (one["num_processes"], two["num_processes"]) == (1, 2) and two[
        "peak_rss_bytes"
    ] > 1.5 * one["peak_rss_bytes"]
    assert (
        two["loss_nats"] == pytest.approx(one["loss_nats"], rel=1e-5)
        and two["evaluation"]["analogy"] == one["evaluation"]["analogy"]
    )
    assert sorted(p.name for p in (text.parent / "one").iterdir()) == sorted(
        p.name for p in (text.parent / "two").iterdir()
    )
    sums = [
        json.loads((text.parent / run / "evaluation-sum.json").read_text())
        for run in ("one", "two")
    ]
    assert sums[0]["analogy"] == sums[1]["analogy"]


@pytest.mark.slow
def test_a_stage_of_one_process_is_not_started_in_several() -> None:
    said = finish(job := torchrun(2, PROJECT_ROOT / "scripts" / "prepare.py", "corpus=sample"))
    assert (
        job.returncode != 0 and "this stage runs in one process: start it without torchrun" in said
    )
