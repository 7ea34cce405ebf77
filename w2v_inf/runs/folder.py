"""The run folder: its name, its files, and how they are written.

config.yaml (resolved options), environment.json, vocab.tsv (the word of each row), metrics.jsonl (progress and evaluations as they
happen), checkpoints while it trains (`checkpoint.py`), and at the end model.safetensors, places.npz and summary.json. summary.json
comes last: a folder without it is not a finished run.
"""

import dataclasses
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from w2v_inf import compose
from w2v_inf.config import Config, Finite, Log, ModelConfig, Parametrization, StreamConfig, TextFile
from w2v_inf.errors import UserError
from w2v_inf.files import read_json, write_atomically
from w2v_inf.runs import events

SUMMARY, CONFIG, STATE, METRICS = (
    "summary.json",
    "config.yaml",
    "model.safetensors",
    "metrics.jsonl",
)
PLACES, VOCABULARY = "places.npz", "vocab.tsv"
NOT_TRAINED = ("resume", "log", "pair_table_gib")
"""Options of `train` that change nothing in what comes out."""
log = logging.getLogger(__name__)


def corpus_label(config: Config) -> str:
    """`text8`, or a file's name without its endings."""
    corpus = config.corpus
    return Path(corpus.path).name.split(".")[0] if isinstance(corpus, TextFile) else corpus.name


def model_label(model: ModelConfig) -> str:
    """`mup-64`, `ntk_limit`, ..."""
    if not isinstance(model, Finite):
        return model.name
    exponents = ",".join(f"{e:g}" for e in model.exponents)
    name = (
        exponents
        if model.parametrization is Parametrization.custom
        else model.parametrization.value
    )
    return f"{name}-{model.width}"


def run_folder(config: Config) -> Path:
    """run_dir, or by default CORPUS-ARCHITECTURE/MODEL-seedN in runs_dir, with every option that is not its default.

    So each point of a sweep gets a folder of its own, whatever is swept. Names need no quotes on a command line of Hydra's.
    """
    if config.run_dir:
        return Path(config.run_dir)
    named = {"name", "path", "architecture", "width", "parametrization", "exponents", *NOT_TRAINED}
    parts = [model_label(config.model), f"seed{config.seed}"]
    usual = Config(stream=StreamConfig(architecture=config.stream.architecture))
    for group in (config.corpus, config.stream, config.model, config.train):
        same_kind = [other for other in (usual.stream, usual.train) if type(other) is type(group)]
        default = same_kind[0] if same_kind else type(group)(**_required(group))
        for f in dataclasses.fields(group):
            value = getattr(group, f.name)
            if f.name not in named and value != getattr(default, f.name):
                parts.append(f"{f.name}_{getattr(value, 'value', value)}")
    if config.evaluate.embedding is not usual.evaluate.embedding:
        parts.append(f"embedding_{config.evaluate.embedding.value}")
    name = re.sub(r"[^\w.+-]+", "_", "-".join(parts))
    return (
        Path(config.runs_dir) / f"{corpus_label(config)}-{config.stream.architecture.value}" / name
    )


def _required(group: Any) -> dict[str, Any]:
    """What a member's defaults cannot be made without."""
    if isinstance(group, TextFile):
        return {"path": group.path}
    custom = isinstance(group, Finite) and group.parametrization is Parametrization.custom
    return (
        {"parametrization": group.parametrization, "exponents": group.exponents} if custom else {}
    )


def trained_options(config: Config) -> dict[str, Any]:
    """The options that decide what is trained and measured; those of figures and machine are left out."""
    groups = {
        name: dataclasses.asdict(getattr(config, name))
        for name in ("corpus", "stream", "model", "train")
    }
    groups = {
        group: {name: value for name, value in taken.items() if name not in NOT_TRAINED}
        for group, taken in groups.items()
    }
    return groups | {"seed": config.seed, "evaluate": {"embedding": config.evaluate.embedding}}


def is_finished(folder: Path, config: Config, corpus_checksum: str) -> bool:
    """Whether the folder already holds this very run, finished.

    Raises: UserError if it holds a run with other options or on another text, which would be lost.
    """
    if not (folder / SUMMARY).exists():
        return False
    check_same_run(
        folder,
        config,
        corpus_checksum,
        read_json(folder / SUMMARY)["corpus_checksum"],
        "delete the folder",
    )
    return True


def check_same_run(
    folder: Path, config: Config, corpus_checksum: str, trained_on: str, advice: str
) -> None:
    """Raises: UserError if the folder's run has other options, or `trained_on`, its text's checksum, is not this text's."""
    difference = _first_difference(
        trained_options(compose.read(folder / CONFIG)), trained_options(config)
    )
    if difference:
        raise UserError(
            f"{folder} holds a run with other options ({difference}): choose another run_dir or {advice}"
        )
    if trained_on != corpus_checksum:
        text = f"checksum {trained_on[:12]} there, {corpus_checksum[:12]} here"
        raise UserError(
            f"{folder} holds a run on another text ({text}): choose another run_dir or {advice}"
        )


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Make the run folder, and keep other processes from training in it. Raises: UserError if one does, or it cannot be made."""
    descriptor = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is None:
            raise _not_writable(folder, error) from error
        os.close(descriptor)
        raise UserError(
            f"another process is training in run_dir={folder}: wait for it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)  # and so the lock; the kernel does it for a process that is killed


def start_run(folder: Path, config: Config, metrics_bytes: int = 0) -> None:
    """Write the options and keep so much of the metrics. Raises: UserError if the folder cannot be written."""
    try:
        write_atomically(
            folder / CONFIG, lambda draft: compose.save(config, draft)
        )  # a checkpoint is worth nothing without it
        with open(folder / METRICS, "a") as file:
            file.truncate(metrics_bytes)
        if config.train.log is Log.tensorboard:
            events.start(
                folder, [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
            )
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"run_dir={folder} cannot be written ({error.strerror}): choose another folder"
    )


def _first_difference(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> str:
    """`train.epochs: 5 there, 3 here`, or nothing."""
    for key in sorted(there.keys() | here.keys()):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found = _first_difference(a, b, f"{prefix}{key}.")
            if found:
                return found
        elif a != b:
            return f"{prefix}{key}: {getattr(a, 'value', a)} there, {getattr(b, 'value', b)} here"
    return ""


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl. Raises: UserError when there is no space."""
    try:
        with open(folder / METRICS, "a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        events.append(folder, line)
    except OSError as error:
        raise UserError(
            f"{folder / METRICS} cannot be written ({error.strerror}): free some space"
        ) from error
