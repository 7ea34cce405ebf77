"""How far a run is, and how it says so: metrics.jsonl, TensorBoard, and a bar or lines on stderr.

Decisions:
- metrics.jsonl gets a line at equal steps of the text, so that runs can be compared line by line.
- On a terminal, tqdm draws one bar, about ten times per second at most. Elsewhere a log file gets
  a line per report, at most every `SHOWN_EVERY_S`.
- The clocks run during training only: evaluations and checkpoints are not counted.
"""

import logging
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from w2v_inf import distributed
from w2v_inf.errors import UserError
from w2v_inf.models.protocol import Model
from w2v_inf.runs.environment import rss_bytes
from w2v_inf.runs.folder import append_metrics
from w2v_inf.stream import Stream
from w2v_inf.training.tensorboard import EventFile

log = logging.getLogger(__name__)
REPORTS_PER_EPOCH = 20
SHOWN_EVERY_S = 10.0
NO_EXAMPLE = (
    "the corpus has no two words in one window: "
    "raise stream.subsample_threshold or take a longer text"
)


@dataclass
class TrainState:
    """How far a run is, as a checkpoint saves it."""

    epoch: int = 0
    """Finished epochs."""
    batches: int = 0
    """Batches of the current epoch."""
    steps: int = 0
    examples: int = 0
    words_seen: int = 0
    next_report: int = 0
    """Words seen at which the next report is due."""
    lr: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Sum of losses in nats, and number of examples, since the last report."""
    epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """The same since the epoch began."""
    epoch_loss: float = 0.0
    """Mean of the last whole epoch, nats per example."""


@dataclass
class Progress:
    """Counts the steps of a run and reports them. A context manager: its end removes the bar."""

    folder: Path
    stream: Stream
    state: TrainState = field(default_factory=TrainState)
    event_file: EventFile | None = None
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)
    _last_shown: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.state.next_report = self.state.next_report or self._interval
        self._bar = tqdm(
            total=self.stream.epochs * self.stream.words_per_epoch,
            bar_format="{percentage:3.0f}% |{bar:12}| {desc}",
            disable=not (sys.stderr.isatty() and distributed.is_main_process()),
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self.event_file:
            self.event_file.close()

    @property
    def _interval(self) -> int:
        return max(1, self.stream.words_per_epoch // REPORTS_PER_EPOCH)

    def snapshot(self) -> dict[str, Any]:
        """The state now, within an epoch, ready for JSON. All processes call this together.

        CPU seconds are those of all processes.
        """
        wall_s, cpu_s = self._times()
        return asdict(self.state) | {"wall_s": wall_s, "cpu_s": total_over_processes(cpu_s)}

    def count(self, loss: float, num_examples: int, words_seen: int, lr: float) -> None:
        """Count one step; `loss` in nats per example. Raises: UserError if it is not finite."""
        state = self.state
        state.steps += 1
        state.batches += 1
        state.lr = lr
        if not math.isfinite(loss):
            epoch = words_seen / self.stream.words_per_epoch
            size = self.stream.config.batch_size
            raise UserError(
                f"the loss is {loss} at step {state.steps:,} (epoch {epoch:.2f}): "
                f"lower train.lr (now {self.stream.lr:g})"
                f"{f' or stream.batch_size (now {size})' if size > 1 else ''}; "
                f"{self.folder} holds the log, and the last checkpoint if there is one"
            )
        state.examples += num_examples
        for sums in (state.sums, state.epoch_sums):
            sums[0] += loss * num_examples
            sums[1] += num_examples
        if self._bar.update(words_seen - self._bar.n) and words_seen and state.sums[1]:
            self._bar.set_description_str(self._text(self._line(words_seen)), refresh=False)
        if words_seen >= state.next_report:
            state.next_report += self._interval
            self._report(words_seen)

    def end_epoch(self, epoch: int) -> None:
        """Close an epoch and pause the clocks. Raises: UserError if the corpus gave no example."""
        state = self.state
        if not state.epoch_sums[1]:
            raise UserError(NO_EXAMPLE)
        state.words_seen = epoch * self.stream.words_per_epoch
        state.epoch_loss = state.epoch_sums[0] / state.epoch_sums[1]
        state.epoch_sums = [0.0, 0.0]
        state.epoch, state.batches = epoch, 0
        if state.sums[1]:
            self._report(state.words_seen)
        self.pause()

    def pause(self) -> None:
        """Stop the clocks."""
        self.state.wall_s, self.state.cpu_s = self._times()

    def resume(self) -> None:
        """Start the clocks."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def write(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl and to TensorBoard's event file."""
        append_metrics(self.folder, line)
        if self.event_file:
            self.event_file.add(line)

    def _times(self) -> tuple[float, float]:
        """Wall and CPU seconds of training so far."""
        wall_s, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return self.state.wall_s + wall_s, self.state.cpu_s + cpu_s

    def _report(self, words_seen: int) -> None:
        line = self._line(words_seen)
        self.state.sums = [0.0, 0.0]
        self.write(line)
        is_due = time.perf_counter() - self._last_shown >= SHOWN_EVERY_S
        if is_due and self._bar.disable and distributed.is_main_process():
            self._last_shown = time.perf_counter()
            print(self._text(line), file=sys.stderr, flush=True)

    def _line(self, words_seen: int) -> dict[str, Any]:
        wall_s, _ = self._times()
        state = self.state
        return {
            "event": "progress",
            "step": state.steps,
            "epoch": words_seen / self.stream.words_per_epoch,
            "words_seen": words_seen,
            "loss": state.sums[0] / state.sums[1],
            "lr": state.lr,
            "words_per_s": words_seen / wall_s,
            "rss_bytes": rss_bytes(),
            "elapsed_s": wall_s,
        }

    def _text(self, line: dict[str, Any]) -> str:
        epochs = self.stream.epochs
        eta_s = line["elapsed_s"] * (epochs / line["epoch"] - 1)
        eta = f"{eta_s:.0f} s" if eta_s < 120 else f"{eta_s / 60:.0f} min"
        return (
            f"step {line['step']:,}  epoch {line['epoch']:.2f}/{epochs}"
            f"  loss {line['loss']:.3f} nats  lr {line['lr']:.4f}"
            f"  {line['words_per_s'] / 1e3:,.0f}k words/s"
            f"  {line['rss_bytes'] / 2**30:.1f} GiB  eta {eta}"
        )


def total_over_processes(x: float) -> float:
    """The sum of a number over the processes."""
    return float(distributed.all_reduce_sum(torch.tensor(x, dtype=torch.float64)))


def log_evaluation(
    evaluation: dict[str, Any], progress: Progress, epoch: int, model: Model
) -> None:
    """Write the evaluation after an epoch (0: before training), and log the accuracy."""
    rules = evaluation["analogy"]
    analogy, analogy_3cosmul = (
        {part: rules[rule][part] for part in ("total", "semantic", "syntactic")}
        for rule in ("3cosadd", "3cosmul")
    )
    progress.write(
        {
            "event": "evaluation",
            "epoch": epoch,
            "words_seen": epoch * progress.stream.words_per_epoch,
            "elapsed_s": progress.state.wall_s,
            "analogy": analogy,
            "analogy_3cosmul": analogy_3cosmul,
            "similarity": evaluation["similarity"],
            "approximation": model.diagnostics(),
        }
    )
    total = analogy["total"]
    accuracy = (
        "no question in the vocabulary"
        if total["accuracy"] is None
        else f"analogies {total['accuracy']:.2f} %"
    )
    loss = f"  loss {progress.state.epoch_loss:.4f} nats" if epoch else ""
    counts = f"{total['questions']} of {total['total']} questions"
    log.info("epoch %d/%d%s  %s (%s)", epoch, progress.stream.epochs, loss, accuracy, counts)
