"""Where a run stands, and what it says about it: metrics.jsonl and progress lines."""

import logging
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from w2v_inf import distributed
from w2v_inf.errors import UserError
from w2v_inf.models.protocol import Model
from w2v_inf.runs.environment import rss_bytes
from w2v_inf.runs.folder import (
    append_metrics,
)
from w2v_inf.stream import Stream

log = logging.getLogger(__name__)
REPORTS_PER_EPOCH = 20
NO_EXAMPLE = "the corpus has no two words that meet in a window: raise stream.subsample_threshold or take a longer text"
SHOWN_EVERY_S = 10.0
"""Progress lines go to a log file no faster than this; metrics.jsonl gets them all."""


@dataclass
class TrainState:
    """Where a run stands, as a checkpoint keeps it."""

    epoch: int = 0
    """Epochs that are over."""
    batches: int = 0
    """Of the epoch that has begun."""
    steps: int = 0
    examples: int = 0
    words_seen: int = 0
    next_report: int = 0
    lr: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Losses and examples since the last report, nats and number."""
    epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """The same since the epoch began."""
    epoch_loss: float = 0.0
    """Of the last whole epoch, nats an example."""


@dataclass
class Progress:
    """Counts what happens and says it: metrics.jsonl in equal steps of the text, stderr as time passes."""

    folder: Path
    stream: Stream
    tally: TrainState = field(default_factory=TrainState)
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)
    _last_shown: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.tally.next_report = self.tally.next_report or self._interval

    @property
    def _interval(self) -> int:
        return max(1, self.stream.words_per_epoch // REPORTS_PER_EPOCH)

    @property
    def state(self) -> dict[str, Any]:
        """The tally now, within an epoch, ready for JSON; CPU seconds are those of all ranks, which ask together."""
        wall_s, cpu_s = self._times()
        return asdict(self.tally) | {"wall_s": wall_s, "cpu_s": total_over_processes(cpu_s)}

    def count(self, loss: float, num_examples: int, words_seen: int, lr: float) -> None:
        """One step is done; `loss` in nats per example. Raises: UserError if it is not finite."""
        tally = self.tally
        tally.steps += 1
        tally.batches += 1
        tally.lr = lr
        if not math.isfinite(loss):
            epoch = words_seen / self.stream.words_per_epoch
            raise UserError(
                f"the loss is {loss} at step {tally.steps:,} (epoch {epoch:.2f}): lower train.lr (now {self.stream.lr:g}) "
                f"or stream.batch_size (now {self.stream.config.batch_size}); what was logged, and the last checkpoint if there is "
                f"one, is in {self.folder}"
            )
        tally.examples += num_examples
        for sums in (tally.sums, tally.epoch_sums):
            sums[0] += loss * num_examples
            sums[1] += num_examples
        if words_seen >= tally.next_report:
            tally.next_report += self._interval
            self._report(words_seen)

    def end_epoch(self, epoch: int) -> None:
        """Close an epoch and stop the clocks. Raises: UserError if the corpus gave no example."""
        tally = self.tally
        if not tally.epoch_sums[1]:
            raise UserError(NO_EXAMPLE)
        tally.words_seen = epoch * self.stream.words_per_epoch
        tally.epoch_loss = tally.epoch_sums[0] / tally.epoch_sums[1]
        tally.epoch_sums = [0.0, 0.0]
        tally.epoch, tally.batches = epoch, 0
        if tally.sums[1]:
            self._report(tally.words_seen)
        self.stop()

    def stop(self) -> None:
        """Stop the clocks."""
        self.tally.wall_s, self.tally.cpu_s = self._times()

    def go_on(self) -> None:
        """Start the clocks."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def _times(self) -> tuple[float, float]:
        """Wall and CPU seconds of training so far."""
        wall_s, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return self.tally.wall_s + wall_s, self.tally.cpu_s + cpu_s

    def _report(self, words_seen: int) -> None:
        wall_s, _ = self._times()
        tally = self.tally
        line = {
            "event": "progress",
            "step": tally.steps,
            "epoch": words_seen / self.stream.words_per_epoch,
            "words_seen": words_seen,
            "loss": tally.sums[0] / tally.sums[1],
            "lr": tally.lr,
            "words_per_s": words_seen / wall_s,
            "rss_bytes": rss_bytes(),
            "elapsed_s": wall_s,
        }
        tally.sums = [0.0, 0.0]
        append_metrics(self.folder, line)
        live = sys.stderr.isatty()
        if not distributed.is_main_process():
            return
        if live or time.perf_counter() - self._last_shown >= SHOWN_EVERY_S:
            self._last_shown = time.perf_counter()
            _show(line, self.stream.epochs, live)


def _show(line: dict[str, Any], epochs: int, live: bool) -> None:
    """One line of progress; rewritten in place on a terminal (`live`)."""
    eta_s = line["elapsed_s"] * (epochs / line["epoch"] - 1)
    text = (
        f"step {line['step']:,}  epoch {line['epoch']:.2f}/{epochs}"
        f"  loss {line['loss']:.3f} nats  lr {line['lr']:.4f}  {line['words_per_s'] / 1e3:,.0f}k words/s"
        f"  {line['rss_bytes'] / 2**30:.1f} GiB  eta {_duration(eta_s)}"
    )
    print(
        f"\r{text}\033[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True
    )


def total_over_processes(x: float) -> float:
    """The sum of a number over the ranks."""
    return float(distributed.all_reduce_sum(torch.tensor(x, dtype=torch.float64)))


def _clear_line() -> None:
    """Where progress is rewritten in place, make room for a line of the log."""
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def log_evaluation(evaluation: dict[str, Any], meter: Progress, epoch: int, model: Model) -> None:
    """Keep what was measured after an epoch (0: before training), and say the accuracy."""
    parts = ("total", "semantic", "syntactic")
    line = {
        "event": "evaluation",
        "epoch": epoch,
        "words_seen": epoch * meter.stream.words_per_epoch,
        "elapsed_s": meter.tally.wall_s,
    }
    line |= {"analogy": {part: evaluation["analogy"]["3cosadd"][part] for part in parts}}
    line |= {"analogy_3cosmul": {part: evaluation["analogy"]["3cosmul"][part] for part in parts}}
    append_metrics(
        meter.folder,
        line | {"similarity": evaluation["similarity"], "approximation": model.diagnostics()},
    )
    total = line["analogy"]["total"]
    accuracy = (
        "no question in the vocabulary"
        if total["accuracy"] is None
        else f"analogies {total['accuracy']:.2f} %"
    )
    _clear_line()
    loss = "" if epoch == 0 else f"  loss {meter.tally.epoch_loss:.4f} nats"
    log.info(
        "epoch %d/%d%s  %s (%s of %s questions)",
        epoch,
        meter.stream.epochs,
        loss,
        accuracy,
        total["questions"],
        total["total"],
    )
