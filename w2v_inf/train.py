"""Stage 2: one model over one stream, evaluated after each epoch; everything lands in the run folder."""

import logging
import math
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from w2v_inf import records
from w2v_inf.analogy import load_questions
from w2v_inf.config import Config, Finite, MupLimit
from w2v_inf.corpus import EncodedCorpus, open_corpus, prepare, select_vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluate import evaluate_model, place_gram
from w2v_inf.files import write_json
from w2v_inf.models import GIB, build_model, model_bytes, pick_device
from w2v_inf.models.team import use_threads
from w2v_inf.stream import Stream
from w2v_inf.vocab import Vocabulary

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 128
"""Batches that a model gets in one call: compiled models stay in compiled code for a while."""
REPORTS_PER_EPOCH = 20
SHOWN_EVERY_S = 10.0
"""Progress lines go to a log file no faster than this; metrics.jsonl gets them all."""


def train(config: Config) -> Path:
    """Train the configured model and return its run folder; a finished run with the same options is left as it is.

    Raises: UserError for a corpus that cannot be had, a model that does not fit, a run folder with another run in it,
      a loss that is not finite, or no space.
    """
    set_threads(config)
    folder = records.run_folder(config)
    corpus, vocab = load_corpus(config)
    if records.is_finished(folder, config, corpus.info["tokens_sha256"]):
        log.info("%s: already trained; delete the folder to train again", folder)
        return folder
    model = build_model(config, len(vocab))
    records.start_run(folder, config)
    vocab.save(folder / records.VOCABULARY)
    records.reset_peak_rss()
    device = pick_device(config.device)
    write_json(folder / "environment.json", records.environment(config, device, corpus.info["tokens_sha256"]))
    size = f"{model_bytes(config.model, len(vocab)) / GIB:.2f} GiB"
    facts = [records.model_label(config.model), f"V={len(vocab):,}", config.stream.architecture.value, f"{size} on {device}"]
    log.info("%s: %s", folder, ", ".join(facts))

    questions = load_questions(vocab)
    stream = Stream(corpus.tokens, corpus.documents, vocab.counts, config.stream, config.train.epochs, config.train.lr, config.seed)
    meter = Meter(folder, stream)
    evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
    log_evaluation(evaluation, meter, 0)
    for epoch in range(config.train.epochs):
        meter.go_on()
        batches = stream.epoch(epoch)
        while some := list(islice(batches, BATCHES_AT_ONCE)):
            for batch, loss in zip(some, model.update_all(some), strict=True):
                meter.count(loss, len(batch.target), batch.words_seen, batch.lr)
        meter.end_epoch(epoch + 1)
        evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
        log_evaluation(evaluation, meter, epoch + 1)

    records.save_state(folder, model)
    place_gram(model, vocab, config.evaluate.embedding).save(folder / records.PLACES)
    write_json(folder / records.SUMMARY, summarise(config, corpus, vocab, meter, device) | {"evaluation": evaluation})
    return folder


def set_threads(config: Config) -> None:
    """Take `num_threads` CPU threads, in torch and in our own loops, or every core if 0."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    use_threads(config.num_threads)


def load_corpus(config: Config) -> tuple[EncodedCorpus, Vocabulary]:
    """The encoded corpus (prepared now if it is not yet) and its vocabulary under min_count and max_vocab."""
    corpus = open_corpus(prepare(config.corpus, Path(config.data_dir)))
    return corpus, select_vocabulary(corpus, config.corpus)


@dataclass
class Meter:
    """Counts what happens and says it: metrics.jsonl in equal steps of the text, stderr as time passes."""

    folder: Path
    stream: Stream
    steps: int = 0
    examples: int = 0
    words_seen: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    epoch_loss: float = math.nan
    _epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)
    _next_report: int = 0
    _lr: float = math.nan
    _last_shown: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._next_report = self._interval

    @property
    def _interval(self) -> int:
        return max(1, self.stream.words_per_epoch // REPORTS_PER_EPOCH)

    def count(self, loss: float, num_examples: int, words_seen: int, lr: float) -> None:
        """One step is done; `loss` in nats per example. Raises: UserError if it is not finite."""
        self.steps += 1
        self._lr = lr
        if not math.isfinite(loss):
            epoch = words_seen / self.stream.words_per_epoch
            raise UserError(
                f"the loss is {loss} at step {self.steps:,} (epoch {epoch:.2f}): lower train.lr (now {self.stream.lr:g}) "
                f"or stream.batch_size (now {self.stream.config.batch_size}); what was logged is in {self.folder}"
            )
        self.examples += num_examples
        for sums in (self._sums, self._epoch_sums):
            sums[0] += loss * num_examples
            sums[1] += num_examples
        if words_seen >= self._next_report:
            self._next_report += self._interval
            self._report(words_seen, lr)

    def end_epoch(self, epoch: int) -> None:
        """Close an epoch and stop the clocks. Raises: UserError if the corpus gave no example."""
        if not self._epoch_sums[1]:
            raise UserError("the corpus has no two words that meet in a window: raise stream.subsample_threshold or take a longer text")
        self.words_seen = epoch * self.stream.words_per_epoch
        self.epoch_loss = self._epoch_sums[0] / self._epoch_sums[1]
        self._epoch_sums = [0.0, 0.0]
        if self._sums[1]:
            self._report(self.words_seen, self._lr)
        self.wall_s += time.perf_counter() - self._wall
        self.cpu_s += time.process_time() - self._cpu

    def go_on(self) -> None:
        """Start the clocks of an epoch."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def _report(self, words_seen: int, lr: float) -> None:
        wall_s = self.wall_s + time.perf_counter() - self._wall
        line = {
            "event": "progress",
            "step": self.steps,
            "epoch": words_seen / self.stream.words_per_epoch,
            "words_seen": words_seen,
            "loss": self._sums[0] / self._sums[1],
            "lr": lr,
            "words_per_s": words_seen / wall_s,
            "rss_bytes": records.rss_bytes(),
            "elapsed_s": wall_s,
        }
        self._sums = [0.0, 0.0]
        records.append_metrics(self.folder, line)
        live = sys.stderr.isatty()
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
    print(f"\r{text}\033[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def log_evaluation(evaluation: dict[str, Any], meter: Meter, epoch: int) -> None:
    """Keep what was measured after an epoch (0: before training), and say the accuracy."""
    parts = ("total", "semantic", "syntactic")
    line = {"event": "evaluation", "epoch": epoch, "words_seen": epoch * meter.stream.words_per_epoch, "elapsed_s": meter.wall_s}
    line |= {"analogy": {part: evaluation["analogy"]["3cosadd"][part] for part in parts}}
    line |= {"analogy_3cosmul": {part: evaluation["analogy"]["3cosmul"][part] for part in parts}}
    records.append_metrics(meter.folder, line | {"similarity": evaluation["similarity"]})
    total = line["analogy"]["total"]
    accuracy = "no question in the vocabulary" if total["accuracy"] is None else f"analogies {total['accuracy']:.2f} %"
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    loss = "" if epoch == 0 else f"  loss {meter.epoch_loss:.4f} nats"
    log.info("epoch %d/%d%s  %s (%s of %s questions)", epoch, meter.stream.epochs, loss, accuracy, total["questions"], total["total"])


def summarise(config: Config, corpus: EncodedCorpus, vocab: Vocabulary, meter: Meter, device: torch.device) -> dict[str, Any]:
    """summary.json, less the evaluation."""
    model = config.model
    return {
        "model": model.name,
        "engine": model.engine.value if isinstance(model, MupLimit) else None,
        "parametrization": model.parametrization.value if isinstance(model, Finite) else None,
        "width": model.width if isinstance(model, Finite) else None,
        "architecture": config.stream.architecture.value,
        "corpus": records.corpus_label(config),
        "synthetic": corpus.info["synthetic"],
        "licence": corpus.info["licence"],
        "vocab_size": len(vocab),
        "tokens": len(corpus.tokens),
        "tokens_in_vocab": meter.stream.words_per_epoch,
        "epochs": config.train.epochs,
        "steps": meter.steps,
        "examples": meter.examples,
        "seed": config.seed,
        "loss_nats": meter.epoch_loss,
        "wall_s": meter.wall_s,
        "cpu_s": meter.cpu_s,
        "words_per_s": meter.words_seen / meter.wall_s,
        "peak_rss_bytes": records.rss_bytes(peak=True),
        "device": str(device),
        "corpus_checksum": corpus.info["tokens_sha256"],
        "limit_distance": None,
    }
