"""Stage 2: one model over one stream, evaluated after each epoch; everything lands in the run folder."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch

from w2v_inf import checkpoint, ranks, records
from w2v_inf.analogy import load_questions
from w2v_inf.config import Config, Finite, MupLimit, Resume
from w2v_inf.corpus import EncodedCorpus, check_tokens, open_corpus, prepare, select_vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluate import evaluate_model, place_gram
from w2v_inf.files import write_json
from w2v_inf.interruption import Interruption, noting_interruptions
from w2v_inf.models import GIB, Model, build_model, model_bytes, pick_device, team
from w2v_inf.stream import Batch, Stream
from w2v_inf.tensors import save_model
from w2v_inf.vocab import Vocabulary

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 128
"""Batches that a model gets in one call: compiled models stay in compiled code for a while."""
REPORTS_PER_EPOCH = 20
NO_EXAMPLE = "the corpus has no two words that meet in a window: raise stream.subsample_threshold or take a longer text"
SHOWN_EVERY_S = 10.0
"""Progress lines go to a log file no faster than this; metrics.jsonl gets them all."""


def train(config: Config) -> Path:
    """Train the configured model and return its run folder; a finished run with the same options is left as it is.

    An interrupted run goes on from its last checkpoint, to the same bits (train.resume=auto).
    Raises: UserError for a corpus that cannot be had, a model that does not fit, a run folder with another run in it,
      a loss that is not finite, no space, or another rank that has ended; KeyboardInterrupt and SystemExit once an interrupted
      run is saved.
    """
    pick_device(config.device)  # refuses a card that is not there, before a corpus is downloaded
    set_threads(config)
    folder = records.run_folder(config)
    corpus, vocab = load_corpus(config)
    if records.is_finished(folder, config, corpus.info["tokens_sha256"]):
        if ranks.is_first():
            checkpoint.remove_all(folder)  # a run killed at its very end has some
        log.info("%s: already trained; delete the folder to train again", folder)
        return folder
    stream = stream_of(config, corpus, vocab)
    if next(stream.epoch(0), None) is None:
        raise UserError(NO_EXAMPLE)  # before there is a run folder
    model = build_model(config, len(vocab))
    with ranks.folder_to_write(folder) as folder, records.alone_in(folder), noting_interruptions() as interruption:
        return train_model(model, stream, folder, config, corpus, vocab, interruption)


def train_model(
    model: Model, stream: Stream, folder: Path, config: Config, corpus: EncodedCorpus, vocab: Vocabulary, interruption: Interruption
) -> Path:
    """Train `model` from its start or the folder's last checkpoint; `interruption` is looked at between calls of the model."""
    device = pick_device(config.device)
    keeper = checkpoint.Keeper(folder, folder / records.METRICS, model, made_with(corpus, device))
    tally = resume_or_start(keeper, config)
    vocab.save(folder / records.VOCABULARY)
    records.reset_peak_rss()
    write_json(folder / "environment.json", records.environment(config, device, corpus.info["tokens_sha256"]))
    size = f"{model_bytes(config.model, len(vocab)) / GIB:.2f} GiB"
    facts = [records.model_label(config.model), f"V={len(vocab):,}", config.stream.architecture.value, f"{size} on {device}"]
    log.info("%s: %s", folder, ", ".join(facts))

    questions = load_questions(vocab)
    meter = Meter(folder, stream, tally)
    evaluation = {}
    if tally.steps == 0:
        evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
        log_evaluation(evaluation, meter, 0, model)
        meter.go_on()
        model.get_ready(stream, lambda: bool(interruption.number))
        meter.stop()
        if interruption.number:
            log.info("interrupted before the first step: the same command starts anew")
            interruption.act()
    for epoch in range(tally.epoch, config.train.epochs):
        meter.go_on()
        for some in batches_at_once(stream.epoch(epoch, skip=tally.batches), ahead=device.type != "cpu"):
            for batch, loss in zip(some, model.update_all(some), strict=True):
                meter.count(loss, len(batch.target), batch.words_seen, batch.lr)
            number, due = ranks.largest(interruption.number, keeper.is_due())
            if number:
                interruption.number = number  # and otherwise left alone: a signal may just have come
                save_and_stop(keeper, meter, interruption)
            if due:
                keeper.save(meter.state)
        meter.end_epoch(epoch + 1)
        evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
        log_evaluation(evaluation, meter, epoch + 1, model)

    save_model(folder / records.STATE, model)
    place_gram(model, vocab, config.evaluate.embedding).save(folder / records.PLACES)
    write_json(
        folder / records.SUMMARY,
        summarise(config, corpus, vocab, meter, device) | {"approximation": model.report(), "evaluation": evaluation},
    )
    checkpoint.remove_all(folder)
    return folder


def batches_at_once(batches: Iterator[Batch], ahead: bool) -> Iterator[list[Batch]]:
    """All batches, some in a list. `ahead`: the next are drawn while one list is in use, so that a card need not wait for them."""

    def draw() -> list[Batch]:
        return list(islice(batches, BATCHES_AT_ONCE))

    if not ahead:  # the cores have enough to do
        yield from iter(draw, [])
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(draw)
        while some := coming.result():
            coming = pool.submit(draw)
            yield some


def made_with(corpus: EncodedCorpus, device: torch.device) -> dict[str, Any]:
    """What a run must be gone on with: the text, or the result would be another's; threads, ranks and device, for its bits."""
    machine = {"num_threads": team.size(), "num_ranks": ranks.count(), "device": str(device)}
    return {"corpus_checksum": corpus.info["tokens_sha256"]} | machine


def resume_or_start(keeper: checkpoint.Keeper, config: Config) -> "Tally":
    """Put the model and the metrics where the last checkpoint left them, or make the folder ready for a start.

    Raises: UserError if the folder's checkpoint is of a run with other options or on another text.
    """
    found = ranks.from_first(lambda: _find_checkpoint(keeper, config))
    if found is None:
        records.start_run(keeper.folder, config)
        return Tally()
    records.start_run(keeper.folder, config, found.metrics_bytes if ranks.is_first() else 0)
    keeper.model.load(found.state)
    tally = Tally(**found.tally)
    if not ranks.is_first():
        tally.cpu_s = 0.0  # the first has those of all
    log.info("%s: going on at step %s of %s", keeper.folder, f"{tally.steps:,}", found.path.name)
    for name in ("num_threads", "num_ranks", "device"):
        there, here = found.made_with[name], keeper.made_with[name]
        if there != here and ranks.is_first():
            log.warning("%s was %s until there and is %s now: the last bits of the result may differ", name, there, here)
    return tally


def _find_checkpoint(keeper: checkpoint.Keeper, config: Config) -> checkpoint.Checkpoint | None:
    """The folder's last checkpoint that is this run's, or None, with the folder cleared of others."""
    folder = keeper.folder
    checkpoint.remove_drafts(folder)
    found = checkpoint.newest(folder, keeper.metrics) if config.train.resume is Resume.auto else None
    if found is None:
        checkpoint.remove_all(folder)
        return None
    advice = "start this one anew with train.resume=never"
    records.check_same_run(folder, config, keeper.made_with["corpus_checksum"], found.made_with["corpus_checksum"], advice)
    return found


def save_and_stop(keeper: checkpoint.Keeper, meter: "Meter", interruption: Interruption) -> NoReturn:
    """Keep an interrupted run and stop as the signal asks."""
    path = keeper.save(meter.state)
    _clear_line()
    where = f"{path}: the same command goes on from there" if path else f"checkpoints before it, if any, are in {keeper.folder}"
    log.info("interrupted after step %s; %s", f"{meter.tally.steps:,}", where)
    interruption.act()


def set_threads(config: Config) -> None:
    """Take `num_threads` CPU threads, in torch and in our own loops, or every core (the ranks of a machine share them) if 0."""
    num_threads = config.num_threads
    if not num_threads and ranks.local_count() > 1:
        num_threads = max(1, team.num_cores() // ranks.local_count())
    if num_threads:
        torch.set_num_threads(num_threads)
    team.use_threads(num_threads)


def load_corpus(config: Config) -> tuple[EncodedCorpus, Vocabulary]:
    """The encoded corpus (prepared now if it is not yet), every byte checked, and its vocabulary under min_count and max_vocab."""
    corpus = open_corpus(ranks.from_first(lambda: prepare(config.corpus, Path(config.data_dir))))
    check_tokens(corpus)
    return corpus, select_vocabulary(corpus, config.corpus)


def stream_of(config: Config, corpus: EncodedCorpus, vocab: Vocabulary) -> Stream:
    """The examples of all epochs."""
    return Stream(corpus.tokens, corpus.documents, vocab.counts, config.stream, config.train.epochs, config.train.lr, config.seed)


@dataclass
class Tally:
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
class Meter:
    """Counts what happens and says it: metrics.jsonl in equal steps of the text, stderr as time passes."""

    folder: Path
    stream: Stream
    tally: Tally = field(default_factory=Tally)
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
        return asdict(self.tally) | {"wall_s": wall_s, "cpu_s": total_of_ranks(cpu_s)}

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
            "rss_bytes": records.rss_bytes(),
            "elapsed_s": wall_s,
        }
        tally.sums = [0.0, 0.0]
        records.append_metrics(self.folder, line)
        live = sys.stderr.isatty()
        if not ranks.is_first():
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
    print(f"\r{text}\033[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


def total_of_ranks(x: float) -> float:
    """The sum of a number over the ranks."""
    return float(ranks.add_up(torch.tensor(x, dtype=torch.float64)))


def _clear_line() -> None:
    """Where progress is rewritten in place, make room for a line of the log."""
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def log_evaluation(evaluation: dict[str, Any], meter: Meter, epoch: int, model: Model) -> None:
    """Keep what was measured after an epoch (0: before training), and say the accuracy."""
    parts = ("total", "semantic", "syntactic")
    line = {"event": "evaluation", "epoch": epoch, "words_seen": epoch * meter.stream.words_per_epoch, "elapsed_s": meter.tally.wall_s}
    line |= {"analogy": {part: evaluation["analogy"]["3cosadd"][part] for part in parts}}
    line |= {"analogy_3cosmul": {part: evaluation["analogy"]["3cosmul"][part] for part in parts}}
    records.append_metrics(meter.folder, line | {"similarity": evaluation["similarity"], "approximation": model.report()})
    total = line["analogy"]["total"]
    accuracy = "no question in the vocabulary" if total["accuracy"] is None else f"analogies {total['accuracy']:.2f} %"
    _clear_line()
    loss = "" if epoch == 0 else f"  loss {meter.tally.epoch_loss:.4f} nats"
    log.info("epoch %d/%d%s  %s (%s of %s questions)", epoch, meter.stream.epochs, loss, accuracy, total["questions"], total["total"])


def summarise(config: Config, corpus: EncodedCorpus, vocab: Vocabulary, meter: Meter, device: torch.device) -> dict[str, Any]:
    """summary.json, less the evaluation."""
    model, tally = config.model, meter.tally
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
        "steps": tally.steps,
        "examples": tally.examples,
        "seed": config.seed,
        "loss_nats": tally.epoch_loss,
        "wall_s": tally.wall_s,
        "cpu_s": total_of_ranks(tally.cpu_s),
        "words_per_s": tally.words_seen / tally.wall_s,
        "peak_rss_bytes": int(total_of_ranks(records.rss_bytes(peak=True))),
        "num_ranks": ranks.count(),
        "device": str(device),
        "corpus_checksum": corpus.info["tokens_sha256"],
        "limit_distance": None,
    }
