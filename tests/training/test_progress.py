"""Progress: the state that it counts, metrics.jsonl, and what stderr shows."""

import io
import logging
import math
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import read_metrics, small_config
from tqdm.contrib.logging import logging_redirect_tqdm

from w2v_inf.errors import UserError
from w2v_inf.runs.folder import Summary
from w2v_inf.training import progress as progress_module
from w2v_inf.training.progress import Progress, TrainState
from w2v_inf.training.train import train

STREAM: Any = SimpleNamespace(
    epochs=2, words_per_epoch=1000, lr=0.05, config=SimpleNamespace(batch_size=10)
)
LINE = (
    r"step \d+  epoch \d\.\d\d/2  loss 2\.000 nats  lr 0\.0500  [\d,]+k words/s"
    r"  \d+\.\d GiB  eta \d+ (s|min)"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_epochs(progress: Progress) -> None:
    """Two epochs of 101 steps and 1,000 words; the log gets a line after each."""
    for epoch in range(2):
        progress.resume()
        progress.count(2.0, 10, 1000 * epoch, 0.05)  # a stream counts words in blocks
        for step in range(1, 101):
            progress.count(2.0, 10, 1000 * epoch + 10 * step, 0.05)
            time.sleep(0.002)
        progress.end_epoch(epoch + 1)
        logging.getLogger("w2v_inf").warning("evaluated epoch %d", epoch + 1)


def test_a_terminal_gets_one_bar_that_the_log_does_not_tear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    logging.root.addHandler(handler)
    try:
        with logging_redirect_tqdm(), Progress(tmp_path, STREAM) as progress:
            run_epochs(progress)
    finally:
        logging.root.removeHandler(handler)
    shown = re.split(r"[\r\n]", terminal.getvalue().replace("\x1b[A", ""))
    assert sum(bool(re.search(rf"% \|.*\| {LINE}$", text.rstrip())) for text in shown) >= 3
    logged = [text for text in shown if "evaluated" in text]
    assert logged == ["evaluated epoch 1", "evaluated epoch 2"]
    assert shown[-1].strip() == ""  # the end removes the bar


def test_a_log_file_gets_a_line_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [time.perf_counter()]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    with Progress(tmp_path, STREAM) as progress:
        for step in range(1, 101):  # a report every 5 steps, that is 3 s
            now[0] += 0.6
            progress.count(2.0, 10, 10 * step, 0.05)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and all(re.fullmatch(LINE, line) for line in lines)
    assert lines[0].startswith("step 20  epoch 0.20/2")
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(5, 101, 5))


def test_losses_are_means_over_examples(tmp_path: Path) -> None:
    with Progress(tmp_path, STREAM) as progress:
        progress.count(1.0, 30, 40, 0.05)
        progress.count(3.0, 10, 50, 0.04)
        progress.end_epoch(1)
    [line] = read_metrics(tmp_path)
    assert (line["loss"], line["lr"], line["words_seen"]) == (1.5, 0.04, 50)
    state = progress.state
    assert (state.epoch, state.epoch_loss, state.steps, state.batches) == (1, 1.5, 2, 0)
    assert (state.examples, state.words_seen) == (40, 1000)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with Progress(tmp_path, STREAM) as progress:
        progress.count(1.0, 30, 40, 0.05)
        with pytest.raises(UserError, match=r"the loss is nan at step 2 \(epoch 0.05\): lower tra"):
            progress.count(math.nan, 30, 50, 0.05)
        assert progress.state.examples == 30


def test_an_epoch_without_examples(tmp_path: Path) -> None:
    with Progress(tmp_path, STREAM) as progress, pytest.raises(UserError, match="no two words"):
        progress.end_epoch(1)


def test_clocks_run_between_resume_and_pause_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    with Progress(tmp_path, STREAM, TrainState(wall_s=100.0)) as progress:
        progress.resume()
        now[0] = 7.0
        assert progress.snapshot()["wall_s"] == 107
        progress.pause()
        now[0] = 50.0
        progress.resume()
        now[0] = 51.0
        assert progress.snapshot()["wall_s"] == 108


@pytest.mark.slow  # trains a run
def test_a_clock_that_jumps_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return real() + (-1) ** len(calls) * 1e6

    monkeypatch.setattr(time, "time", jumping)
    start_s = time.perf_counter()
    summary = Summary.load(train(small_config(tmp_path, "train.epochs=1")))
    assert 0 < summary.wall_s < time.perf_counter() - start_s and summary.words_per_s > 0
