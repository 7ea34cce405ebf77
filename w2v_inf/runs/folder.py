"""The run folder: its name, its files, its lock, and the options that make two runs the same.

| file | written | content |
|---|---|---|
| config.yaml, environment.json, vocab.tsv | at the start | options, machine, the word of each row |
| metrics.jsonl | during training | progress and evaluations |
| checkpoint-* | during training | see `training/checkpoint.py` |
| groups.npz | after each epoch | see `evaluation/group_history.py` |
| model.safetensors, places.npz | at the end | the tensors, the data of the PCA figure |
| summary.json | last | see `Summary`; a folder without this file is not a finished run |
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from w2v_inf import compose
from w2v_inf.config import (
    MEMBERS,
    Config,
    Embedding,
    Finite,
    ModelConfig,
    Parametrization,
    StreamConfig,
    TextFile,
    Wikipedia,
)
from w2v_inf.errors import UserError, printable
from w2v_inf.files import read_json, write_atomically, write_json
from w2v_inf.system_errors import system_error

SUMMARY, CONFIG, METRICS = "summary.json", "config.yaml", "metrics.jsonl"
STATE, PLACES, VOCABULARY = "model.safetensors", "places.npz", "vocab.tsv"
GROUP_HISTORY = "groups.npz"
NOT_TRAINED = ("train.resume", "train.log", "model.pair_table_gib")
"""Options of the trained groups that do not change the result."""
NAMED = (
    "corpus.name",
    "corpus.path",
    "corpus.phrases",
    "stream.architecture",
    "model.name",
    "model.width",
    "model.parametrization",
    "model.exponents",
    "seed",
)
"""Options that every name of a run folder says in its own way."""
NOT_IN_NAMES = r"[^\w.+-]+"
"""Characters that would need quotes in a shell."""
MAX_LABEL, MAX_NAME = 60, 180
"""Characters; a file system takes 255 bytes."""
MAX_NAMED = 4
"""Differences between two runs that a message names."""


@dataclass
class Summary:
    """summary.json: what a finished run trained, its last evaluation and its cost."""

    model: str
    engine: str | None
    parametrization: str | None
    width: int | None
    architecture: str
    corpus: str
    synthetic: bool
    vocab_size: int
    tokens: int
    """Words of the corpus, rare ones included."""
    tokens_in_vocab: int
    epochs: int
    steps: int
    examples: int
    seed: int
    loss_nats: float
    """Mean of the last epoch, nats per example."""
    wall_s: float
    """Training time, without evaluations and checkpoints."""
    cpu_s: float
    """CPU time of training, all processes."""
    words_per_s: float
    peak_rss_bytes: int
    device: str
    corpus_checksum: str
    evaluation: dict
    """See `similarity.evaluate_model`."""
    num_processes: int = 1
    licence: str | None = None
    """Of the corpus."""
    approximation: dict | None = None
    """The model's own diagnostics."""
    limit_distance: dict | None = None
    """See `limit_distance.limit_distance`; None until w2v-inf evaluate measures it."""

    def save(self, folder: Path) -> None:
        """Write summary.json."""
        write_json(folder / SUMMARY, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Summary":
        """Read what `save` wrote. Raises: UserError if the file is missing or damaged."""
        content, hints = read_json(folder / SUMMARY), get_type_hints(cls)
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        values = {name: content.get(name, default) for name, default in defaults.items()}
        bad = [name for name, value in values.items() if not isinstance(value, hints[name])]
        if "model" not in bad and values["model"] not in [m.name for m in MEMBERS["model"]]:
            bad.append(f"model={values['model']}")
        if bad:
            path = folder / SUMMARY
            raise UserError(f"{path} is damaged ({', '.join(bad)}): train the run again")
        return cls(**values)


def corpus_label(config: Config) -> str:
    """`text8`, or a file's name without its extensions; with phrases `text8-phrases2`."""
    return _text_label(config) + _phrases_label(config)


def _text_label(config: Config) -> str:
    corpus = config.corpus
    if not isinstance(corpus, TextFile):
        return corpus.name
    name = Path(corpus.path).name
    return printable(name.split(".")[0] or name)


def _phrases_label(config: Config) -> str:
    return f"-phrases{config.corpus.phrases}" if config.corpus.phrases else ""


def corpus_folder(config: Config) -> str:
    """The label as a name for folders, with a mark of the path if the label alone does not tell it.

    `train.txt` is `train`; `en/train.txt` and `de/train.txt` get different marks.
    """
    corpus, label, phrases = config.corpus, _text_label(config), _phrases_label(config)
    name = re.sub(NOT_IN_NAMES, "_", label)[:MAX_LABEL]
    if not isinstance(corpus, TextFile | Wikipedia) or not corpus.path:
        return name + phrases
    is_told = isinstance(corpus, TextFile) and corpus.path in (name, f"{name}.txt")
    is_told = is_told and not re.search(r"-phrases\d$", name)
    return (name if is_told else f"{name}-{_mark(os.path.normpath(corpus.path))}") + phrases


def _mark(text: str) -> str:
    """Six hexadecimal digits of the sha256."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]


def model_label(model: ModelConfig) -> str:
    """`mup-64`, `ntk_limit`, ..."""
    if not isinstance(model, Finite):
        return model.name
    exponents = ",".join(f"{e:g}" for e in model.exponents)
    is_custom = model.parametrization is Parametrization.custom
    return f"{exponents if is_custom else model.parametrization.value}-{model.width}"


def run_folder(config: Config) -> Path:
    """run_dir, or CORPUS-ARCHITECTURE/MODEL-seedN in runs_dir, with every option off its default.

    Each point of a sweep thus gets a folder of its own. No name needs quotes on Hydra's command
    line.
    """
    if config.run_dir:
        return Path(config.run_dir)
    default = trained_options(default_config(config))
    changed = {
        name: value
        for name, value in trained_options(config).items()
        if name not in NAMED and value != default[name]
    }
    parts = [model_label(config.model), f"seed{config.seed}"]
    parts += [f"{name.split('.')[-1]}_{value}" for name, value in changed.items()]
    group = f"{corpus_folder(config)}-{config.stream.architecture.value}"
    name = re.sub(NOT_IN_NAMES, "_", "-".join(parts))
    if len(name) > MAX_NAME:
        name = f"{name[:MAX_NAME]}-{_mark(name)}"
    return Path(config.runs_dir) / group / name


def finished_folder(config: Config) -> Path:
    """The run folder of a finished run.

    evaluate.embedding names the vectors that are asked now: a run trained with another one is the
    same run.
    Raises: UserError if the user named no folder, and none is at the default place.
    """
    folder = run_folder(config)
    if config.run_dir or (folder / SUMMARY).exists():
        return folder
    for embedding in Embedding:
        evaluate = dataclasses.replace(config.evaluate, embedding=embedding)
        other = run_folder(dataclasses.replace(config, evaluate=evaluate))
        if (other / SUMMARY).exists():
            return other
    raise UserError(
        f"no finished run at {folder} (the default for these options): give run_dir=FOLDER"
    )


def default_config(config: Config) -> Config:
    """The defaults beside this corpus, architecture and model."""
    corpus, stream = config.corpus, StreamConfig(architecture=config.stream.architecture)
    # A text file is the one member whose defaults are not valid alone.
    corpus = TextFile(path=corpus.path) if isinstance(corpus, TextFile) else type(corpus)()
    return Config(corpus=corpus, model=type(config.model)(), stream=stream)


def trained_options(config: Config) -> dict[str, Any]:
    """The options that decide what is trained and measured, by dotted name, enums as text.

    Options of figures and of the machine are left out.
    """
    values: dict[str, Any] = {
        f"{group}.{name}": value
        for group in ("corpus", "stream", "model", "train")
        for name, value in vars(getattr(config, group)).items()
    }
    values |= {"seed": config.seed, "evaluate.embedding": config.evaluate.embedding}
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in values.items()
        if name not in NOT_TRAINED
    }


def is_finished(folder: Path, config: Config, corpus_checksum: str) -> bool:
    """Whether the folder holds this very run, finished.

    Raises: UserError if the folder holds a run with other options or on another text.
    """
    if not (folder / SUMMARY).exists():
        return False
    trained_on = Summary.load(folder).corpus_checksum
    check_same_run(folder, config, corpus_checksum, trained_on, "runs_dir")
    return True


def check_same_run(
    folder: Path, config: Config, corpus_checksum: str, trained_on: str, advice: str
) -> None:
    """Refuse to continue or replace another run.

    Args:
      corpus_checksum: of the text of `config`.    trained_on: of the folder's run.
    Raises: UserError if options or text differ; it ends with `advice`.
    """
    there, here = trained_options(compose.read(folder / CONFIG)), trained_options(config)
    if there != here:
        raise UserError(
            f"{folder} holds a run with other options ({_differences(there, here)}): "
            f"choose another run_dir or {advice}"
        )
    if trained_on != corpus_checksum:
        text = f"checksum {trained_on[:12]} there, {corpus_checksum[:12]} here"
        raise UserError(
            f"{folder} holds a run on another text ({text}): choose another run_dir or {advice}"
        )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Another corpus or model first, then a few other options.

    Options that only one of two corpora or models has say no more than their names.
    """
    changed = [name for name in sorted(there.keys() & here.keys()) if there[name] != here[name]]
    changed.sort(key=lambda name: not name.endswith(".name"))
    shown = [f"{name}: {there[name]} there, {here[name]} here" for name in changed[:MAX_NAMED]]
    num_others = len(changed) - len(shown)
    return "; ".join([*shown, *([f"and {num_others} more"] if num_others else [])])


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Make the run folder, and keep other processes from training in it.

    Raises: UserError if another process trains there, or the folder cannot be made or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise system_error(f"run_dir={folder}", error, "written") from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)  # releases the lock; the kernel does so for a killed process


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another process is training in run_dir={folder}: wait for it, "
            "or choose another folder"
        ) from error
    except OSError as error:  # some network file systems have no locks
        raise system_error(f"run_dir={folder}", error, "locked") from error


def start_run(folder: Path, config: Config, metrics_bytes: int = 0) -> None:
    """Write the options, and cut metrics.jsonl to `metrics_bytes`, its length at the checkpoint.

    Raises: UserError if the folder cannot be written.
    """
    try:
        # Atomically: without its options a checkpoint is worth nothing.
        write_atomically(folder / CONFIG, lambda draft: compose.save(config, draft))
        with open(folder / METRICS, "a") as file:
            file.truncate(metrics_bytes)
    except OSError as error:
        raise system_error(f"run_dir={folder}", error, "written") from error


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl. Raises: UserError if there is no space."""
    path = folder / METRICS
    try:
        with path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
    except OSError as error:
        raise system_error(path, error, "written") from error
