"""Stage 2: one model over one stream, evaluated after each epoch; everything lands in the run folder."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch

from w2v_inf import distributed
from w2v_inf.config import Config, Finite, MupLimit, Resume
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import load_questions
from w2v_inf.evaluation.places import place_gram
from w2v_inf.evaluation.similarity import evaluate_model
from w2v_inf.files import write_json
from w2v_inf.models.build import build_model
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.device import pick_device
from w2v_inf.models.memory_check import GIB, model_bytes
from w2v_inf.models.protocol import Model
from w2v_inf.runs.environment import environment, reset_peak_rss, rss_bytes
from w2v_inf.runs.folder import (
    METRICS,
    PLACES,
    STATE,
    SUMMARY,
    VOCABULARY,
    check_same_run,
    corpus_label,
    is_finished,
    lock,
    model_label,
    run_folder,
    start_run,
)
from w2v_inf.runs.weights import save_model
from w2v_inf.stream import Batch, Stream, build_stream
from w2v_inf.training import checkpoint
from w2v_inf.training.progress import (
    NO_EXAMPLE,
    Progress,
    TrainState,
    _clear_line,
    log_evaluation,
    total_over_processes,
)
from w2v_inf.training.signals import Interruption, catch_signals

log = logging.getLogger(__name__)
BATCHES_AT_ONCE = 128
"""Batches that a model gets in one call: compiled models stay in compiled code for a while."""


def train(config: Config) -> Path:
    """Train the configured model and return its run folder; a finished run with the same options is left as it is.

    An interrupted run goes on from its last checkpoint, to the same bits (train.resume=auto).
    Raises: UserError for a corpus that cannot be had, a model that does not fit, a run folder with another run in it,
      a loss that is not finite, no space, or another rank that has ended; KeyboardInterrupt and SystemExit once an interrupted
      run is saved.
    """
    pick_device(config.device)  # refuses a card that is not there, before a corpus is downloaded
    with training_threads(config.num_threads):
        return _train(config)


def _train(config: Config) -> Path:
    """`train` on the configured device and threads."""
    folder = run_folder(config)
    corpus, vocab = load_corpus(config)
    if is_finished(folder, config, corpus.info["tokens_sha256"]):
        if distributed.is_main_process():
            checkpoint.remove_all(folder)  # a run killed at its very end has some
        log.info("%s: already trained; delete the folder to train again", folder)
        return folder
    stream = build_stream(config, corpus, vocab)
    if next(stream.epoch(0), None) is None:
        raise UserError(NO_EXAMPLE)  # before there is a run folder
    model = build_model(config, len(vocab))
    with (
        distributed.folder_to_write(folder) as folder,
        lock(folder),
        catch_signals() as interruption,
    ):
        return train_model(model, stream, folder, config, corpus, vocab, interruption)


def train_model(
    model: Model,
    stream: Stream,
    folder: Path,
    config: Config,
    corpus: EncodedCorpus,
    vocab: Vocabulary,
    interruption: Interruption,
) -> Path:
    """Train `model` from its start or the folder's last checkpoint; `interruption` is looked at between calls of the model."""
    device = pick_device(config.device)
    keeper = checkpoint.CheckpointManager(
        folder, folder / METRICS, model, made_with(corpus, device)
    )
    tally = resume_or_start(keeper, config)
    vocab.save(folder / VOCABULARY)
    reset_peak_rss()
    write_json(
        folder / "environment.json", environment(config, device, corpus.info["tokens_sha256"])
    )
    size = f"{model_bytes(config.model, len(vocab)) / GIB:.2f} GiB"
    facts = [
        model_label(config.model),
        f"V={len(vocab):,}",
        config.stream.architecture.value,
        f"{size} on {device}",
    ]
    log.info("%s: %s", folder, ", ".join(facts))

    questions = load_questions(vocab)
    meter = Progress(folder, stream, tally)
    evaluation = {}
    if tally.steps == 0:
        evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
        log_evaluation(evaluation, meter, 0, model)
        meter.go_on()
        model.prepare(stream, lambda: bool(interruption.number))
        meter.stop()
        if interruption.number:
            log.info("interrupted before the first step: the same command starts anew")
            interruption.act()
    for epoch in range(tally.epoch, config.train.epochs):
        meter.go_on()
        for some in batches_at_once(
            stream.epoch(epoch, skip=tally.batches), ahead=device.type != "cpu"
        ):
            for batch, loss in zip(some, model.train_batches(some), strict=True):
                meter.count(loss, len(batch.target), batch.words_seen, batch.lr)
            number, due = distributed.all_reduce_max(interruption.number, keeper.is_due())
            if number:
                interruption.number = (
                    number  # and otherwise left alone: a signal may just have come
                )
                save_and_stop(keeper, meter, interruption)
            if due:
                keeper.save(meter.state)
        meter.end_epoch(epoch + 1)
        evaluation = evaluate_model(model, vocab, questions, config.evaluate.embedding)
        log_evaluation(evaluation, meter, epoch + 1, model)

    save_model(folder / STATE, model)
    place_gram(model, vocab, config.evaluate.embedding).save(folder / PLACES)
    write_json(
        folder / SUMMARY,
        summarise(config, corpus, vocab, meter, device)
        | {"approximation": model.diagnostics(), "evaluation": evaluation},
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
    machine = {
        "num_threads": threads.size(),
        "num_processes": distributed.world_size(),
        "device": str(device),
    }
    return {"corpus_checksum": corpus.info["tokens_sha256"]} | machine


def resume_or_start(keeper: checkpoint.CheckpointManager, config: Config) -> "TrainState":
    """Put the model and the metrics where the last checkpoint left them, or make the folder ready for a start.

    Raises: UserError if the folder's checkpoint is of a run with other options or on another text.
    """
    found = distributed.broadcast(lambda: _find_checkpoint(keeper, config))
    if found is None:
        start_run(keeper.folder, config)
        return TrainState()
    start_run(keeper.folder, config, found.metrics_bytes if distributed.is_main_process() else 0)
    keeper.model.load(found.state)
    tally = TrainState(**found.tally)
    if not distributed.is_main_process():
        tally.cpu_s = 0.0  # the first has those of all
    log.info("%s: going on at step %s of %s", keeper.folder, f"{tally.steps:,}", found.path.name)
    for name in ("num_threads", "num_processes", "device"):
        there, here = found.made_with[name], keeper.made_with[name]
        if there != here and distributed.is_main_process():
            log.warning(
                "%s was %s until there and is %s now: the last bits of the result may differ",
                name,
                there,
                here,
            )
    return tally


def _find_checkpoint(
    keeper: checkpoint.CheckpointManager, config: Config
) -> checkpoint.Checkpoint | None:
    """The folder's last checkpoint that is this run's, or None, with the folder cleared of others."""
    folder = keeper.folder
    checkpoint.remove_drafts(folder)
    found = (
        checkpoint.newest(folder, keeper.metrics) if config.train.resume is Resume.auto else None
    )
    if found is None:
        checkpoint.remove_all(folder)
        return None
    advice = "start this one anew with train.resume=never"
    check_same_run(
        folder,
        config,
        keeper.made_with["corpus_checksum"],
        found.made_with["corpus_checksum"],
        advice,
    )
    return found


def save_and_stop(
    keeper: checkpoint.CheckpointManager, meter: "Progress", interruption: Interruption
) -> NoReturn:
    """Keep an interrupted run and stop as the signal asks."""
    path = keeper.save(meter.state)
    _clear_line()
    where = (
        f"{path}: the same command goes on from there"
        if path
        else f"checkpoints before it, if any, are in {keeper.folder}"
    )
    log.info("interrupted after step %s; %s", f"{meter.tally.steps:,}", where)
    interruption.act()


def summarise(
    config: Config, corpus: EncodedCorpus, vocab: Vocabulary, meter: Progress, device: torch.device
) -> dict[str, Any]:
    """summary.json, less the evaluation."""
    model, tally = config.model, meter.tally
    return {
        "model": model.name,
        "engine": model.engine.value if isinstance(model, MupLimit) else None,
        "parametrization": model.parametrization.value if isinstance(model, Finite) else None,
        "width": model.width if isinstance(model, Finite) else None,
        "architecture": config.stream.architecture.value,
        "corpus": corpus_label(config),
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
        "cpu_s": total_over_processes(tally.cpu_s),
        "words_per_s": tally.words_seen / tally.wall_s,
        "peak_rss_bytes": int(total_over_processes(rss_bytes(peak=True))),
        "num_processes": distributed.world_size(),
        "device": str(device),
        "corpus_checksum": corpus.info["tokens_sha256"],
        "limit_distance": None,
    }
