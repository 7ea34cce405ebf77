"""Stage 2: train one model on one stream and evaluate it after each epoch, into a run folder."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from w2v_inf import distributed
from w2v_inf.config import Config, Finite, Log, MupLimit, Resume
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.finite_check import check_not_diverged
from w2v_inf.evaluation.group_history import GroupHistory
from w2v_inf.evaluation.places import place_gram
from w2v_inf.evaluation.similarity import EvaluationSets, evaluate_model, load_sets
from w2v_inf.files import write_json
from w2v_inf.models.build import build_model
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.device import pick_device
from w2v_inf.models.memory_check import GIB, model_bytes
from w2v_inf.models.protocol import Model
from w2v_inf.runs.environment import environment, peak_rss_bytes, reset_peak_rss
from w2v_inf.runs.folder import (
    GROUP_HISTORY,
    METRICS,
    PLACES,
    STATE,
    VOCABULARY,
    Summary,
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
from w2v_inf.training.batch_memory import BATCHES_AT_ONCE, MAX_BYTES_AT_ONCE, check_batch_memory
from w2v_inf.training.examples import check_examples
from w2v_inf.training.progress import (
    Progress,
    TrainState,
    log_evaluation,
    total_over_processes,
)
from w2v_inf.training.signals import Interruption, catch_signals
from w2v_inf.training.tensorboard import EventFile, import_writer

log = logging.getLogger(__name__)


def train(config: Config) -> Path:
    """Train the configured model and return its run folder.

    A finished run with the same options is left as it is. An interrupted one resumes from its last
    checkpoint and ends with the same bits (train.resume=auto).
    Raises:
      UserError: the corpus is unavailable, the model does not fit, the run folder holds another
        run, the loss is not finite, the disk is full, or another process has ended.
      KeyboardInterrupt, SystemExit: the run was interrupted and is saved.
    """
    pick_device(config.device)  # refuses an absent GPU before a corpus is downloaded
    if config.train.log is Log.tensorboard:
        import_writer()
    with training_threads(config.num_threads):
        return _train(config)


def _train(config: Config) -> Path:
    """`train` on the configured device and threads."""
    folder = run_folder(config)
    corpus, vocab = load_corpus(config)
    checksum = corpus.info["tokens_sha256"]
    if _is_trained(folder, config, checksum):
        return folder
    stream = build_stream(config, corpus, vocab)
    check_batch_memory(stream)
    check_examples(stream)  # before there is a run folder
    sets = load_sets(vocab, config.evaluate)  # likewise: it refuses files of the user
    model = build_model(config, len(vocab))
    with (
        distributed.folder_to_write(folder) as folder,
        lock(folder),
        catch_signals() as interruption,
    ):
        # Again, now that nobody else can: another process may have trained it meanwhile.
        if distributed.broadcast(lambda: _is_trained(folder, config, checksum)):
            return run_folder(config)
        return train_model(model, stream, folder, config, corpus, vocab, sets, interruption)


def _is_trained(folder: Path, config: Config, checksum: str) -> bool:
    """Whether the folder holds this run, finished; says so."""
    if not is_finished(folder, config, checksum):
        return False
    if distributed.is_main_process():
        checkpoint.remove_all(folder)  # a run that was killed at its very end has some
    log.info("%s: already trained; to train again choose another run_dir", folder)
    return True


def train_model(
    model: Model,
    stream: Stream,
    folder: Path,
    config: Config,
    corpus: EncodedCorpus,
    vocab: Vocabulary,
    sets: EvaluationSets,
    interruption: Interruption,
) -> Path:
    """Train `model` from its initialisation or from the folder's last checkpoint.

    `interruption` is obeyed between two calls of the model.
    """
    device = pick_device(config.device)
    manager = checkpoint.CheckpointManager(
        folder, folder / METRICS, model, describe_provenance(corpus, device)
    )
    state = resume_or_start(manager, config)
    vocab.save(folder / VOCABULARY)
    reset_peak_rss()
    checksum = corpus.info["tokens_sha256"]
    write_json(folder / "environment.json", environment(config, device, checksum))
    size = f"{model_bytes(config.model, len(vocab)) / GIB:.2f} GiB on {device}"
    facts = (model_label(config.model), f"V={len(vocab):,}", config.stream.architecture.value, size)
    log.info("%s: %s", folder, ", ".join(facts))

    embedding = config.evaluate.embedding
    history = start_history(folder, vocab, state)
    event_file = EventFile(folder) if config.train.log is Log.tensorboard else None
    evaluation = {}
    with logging_redirect_tqdm(), Progress(folder, stream, state, event_file) as progress:
        if state.steps == 0:
            check_not_diverged(model, stream, "before the first step")
            evaluation = evaluate_model(model, vocab, sets, embedding)
            log_evaluation(evaluation, progress, 0, model)
            history.add(0, model, vocab, embedding)
            history.save(folder / GROUP_HISTORY)
            progress.resume()
            model.prepare(stream, lambda: bool(interruption.number))
            progress.pause()
            check_not_diverged(model, stream, "after the preparation")
            if interruption.number:
                log.info("interrupted before the first step: nothing to resume from")
                interruption.act()

        for epoch in range(state.epoch, config.train.epochs):
            progress.resume()
            batches = stream.epoch(epoch, skip=state.batches)
            for some in group_batches(batches, prefetch=device.type != "cpu"):
                for batch, loss in zip(some, model.train_batches(some), strict=True):
                    progress.count(loss, len(batch.target), batch.words_seen, batch.lr)
                number, is_due = distributed.all_reduce_max(interruption.number, manager.is_due())
                if number:  # else left alone: a signal may just have come
                    interruption.number = number
                    save_and_stop(manager, progress, interruption)
                if is_due:
                    manager.save(progress.snapshot())
            progress.end_epoch(epoch + 1)
            check_not_diverged(model, stream, f"after epoch {epoch + 1}")
            evaluation = evaluate_model(model, vocab, sets, embedding)
            log_evaluation(evaluation, progress, epoch + 1, model)
            history.add(epoch + 1, model, vocab, embedding)
            history.save(folder / GROUP_HISTORY)

    save_model(folder / STATE, model)
    place_gram(model, vocab, embedding).save(folder / PLACES)
    summary = summarise(config, corpus, vocab, progress, device)
    summary.approximation, summary.evaluation = model.diagnostics(), evaluation
    summary.save(folder)
    checkpoint.remove_all(folder)
    return folder


def group_batches(batches: Iterator[Batch], prefetch: bool) -> Iterator[list[Batch]]:
    """All batches in lists of `BATCHES_AT_ONCE`, or fewer large ones.

    `prefetch` draws the next list meanwhile.

    A GPU then need not wait. On the CPU, drawing would only compete for the cores.
    """

    def draw() -> list[Batch]:
        some, num_bytes = [], 0
        for batch in islice(batches, BATCHES_AT_ONCE):
            some.append(batch)
            num_bytes += batch.context.nbytes + batch.negatives.nbytes
            if num_bytes > MAX_BYTES_AT_ONCE:
                break
        return some

    if not prefetch:
        yield from iter(draw, [])
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(draw)
        while some := following.result():
            following = pool.submit(draw)
            yield some


def describe_provenance(corpus: EncodedCorpus, device: torch.device) -> dict[str, Any]:
    """What a resumed run must share: the text; and, for equal bits, threads, processes, device."""
    return {
        "corpus_checksum": corpus.info["tokens_sha256"],
        "num_threads": threads.size(),
        "num_processes": distributed.world_size(),
        "device": str(device),
    }


def resume_or_start(manager: checkpoint.CheckpointManager, config: Config) -> TrainState:
    """Restore model and metrics from the last checkpoint, or make the folder ready for a new run.

    Raises: UserError if the checkpoint is of a run with other options or on another text.
    """
    found = distributed.broadcast(lambda: _find_checkpoint(manager, config))
    if found is None:
        start_run(manager.folder, config)
        return TrainState()
    start_run(manager.folder, config, found.metrics_bytes if distributed.is_main_process() else 0)
    manager.model.load(found.tensors)
    state = TrainState(**found.train_state)
    if not distributed.is_main_process():
        state.cpu_s = 0.0  # the main process has the seconds of all
    log.info("%s: resuming at step %s from %s", manager.folder, f"{state.steps:,}", found.path.name)
    for name in ("num_threads", "num_processes", "device"):
        before, now = found.provenance[name], manager.provenance[name]
        if before != now and distributed.is_main_process():
            log.warning(
                "%s was %s before and is %s now: the last bits of the result may differ",
                name,
                before,
                now,
            )
    return state


def _find_checkpoint(
    manager: checkpoint.CheckpointManager, config: Config
) -> checkpoint.Checkpoint | None:
    """The folder's last checkpoint, if it is of this run; None leaves the folder without any."""
    folder = manager.folder
    checkpoint.remove_drafts(folder)
    found = None
    if config.train.resume is Resume.auto:
        found = checkpoint.load_newest(folder, manager.metrics)
    if found is None:
        checkpoint.remove_all(folder)
        return None
    corpus_checksum, trained_on = (
        holder.provenance["corpus_checksum"] for holder in (manager, found)
    )
    advice = "discard its checkpoints with train.resume=never"
    check_same_run(folder, config, corpus_checksum, trained_on, advice)
    return found


def start_history(folder: Path, vocab: Vocabulary, state: TrainState) -> GroupHistory:
    """The groups' history up to the state of a checkpoint; empty for a new run."""
    history = GroupHistory.start(vocab)
    if state.steps:
        path = folder / GROUP_HISTORY
        return distributed.broadcast(lambda: history.resume(path, state.epoch))
    return history


def save_and_stop(
    manager: checkpoint.CheckpointManager, progress: Progress, interruption: Interruption
) -> NoReturn:
    """Save an interrupted run and stop as the signal asks."""
    path = manager.save(progress.snapshot())
    where = (
        f"{path}: the same command resumes from there"
        if path
        else f"earlier checkpoints, if any, are in {manager.folder}"
    )
    log.info("interrupted after step %s; %s", f"{progress.state.steps:,}", where)
    interruption.act()


def summarise(
    config: Config,
    corpus: EncodedCorpus,
    vocab: Vocabulary,
    progress: Progress,
    device: torch.device,
) -> Summary:
    """The summary of a finished run, without evaluation and diagnostics."""
    model, state = config.model, progress.state
    return Summary(
        model=model.name,
        engine=model.engine.value if isinstance(model, MupLimit) else None,
        parametrization=model.parametrization.value if isinstance(model, Finite) else None,
        width=model.width if isinstance(model, Finite) else None,
        architecture=config.stream.architecture.value,
        corpus=corpus_label(config),
        synthetic=corpus.info["synthetic"],
        licence=corpus.info["licence"],
        vocab_size=len(vocab),
        tokens=len(corpus.tokens),
        tokens_in_vocab=progress.stream.words_per_epoch,
        epochs=config.train.epochs,
        steps=state.steps,
        examples=state.examples,
        seed=config.seed,
        loss_nats=state.epoch_loss,
        wall_s=state.wall_s,
        cpu_s=total_over_processes(state.cpu_s),
        words_per_s=state.words_seen / state.wall_s,
        peak_rss_bytes=int(total_over_processes(peak_rss_bytes())),
        num_processes=distributed.world_size(),
        device=str(device),
        corpus_checksum=corpus.info["tokens_sha256"],
        evaluation={},
    )
