"""Checkpoints: what an interrupted run goes on from, to the same bits as if it had not been interrupted.

Decisions:
- A checkpoint is two files in the run folder: checkpoint-STEP.safetensors, the model's tensors, then checkpoint-STEP.json,
  where the run stood and the checksums of both. It exists when the JSON does. Each file is written beside its place,
  synced and renamed (`files.write_atomically`), so that a kill or a power cut leaves whole checkpoints only.
- The stream is keyed by epoch and block and models keep no other state than their tensors, so that a position in the text,
  the tensors and the running sums are all there is to keep. Nothing is pickled.
- Training waits while a checkpoint is written: a copy to write from would double the memory of the limits. Checkpoints are
  as far apart as keeps that to `SHARE` of the time, whatever the disk; short runs have none.
- The last two are kept. While a third is written the oldest stays too, unless the disk has no room for it.
- A full disk costs the checkpoint, not the run.
- Over several ranks the first writes the tensors of all, put together some rows at a time: any number of ranks can go on from them.
"""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.errors import UserError
from w2v_inf.files import read_json, sha256, sync, write_json
from w2v_inf.models.protocol import Model
from w2v_inf.runs.weights import save_model

FORMAT_VERSION = 2
KEPT = 2
MIN_INTERVAL_S = 60.0
SHARE = 0.02
"""Of the training time, for writing checkpoints."""
FIRST_GUESS_BYTES_PER_S = 2e8
"""How fast the first checkpoint is taken to be written; the others go by the last one."""
ROWS_CHECKED = 1024
DRAFTS = (".[0-9]*-*", ".tmp??????")
"""Names of half-written files: `files.write_atomically`'s, and those that safetensors fills before it renames them to our draft."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, its checksums verified.

    tally: where the run stood (`training.TrainState`).    metrics_bytes: the length of metrics.jsonl then.
    made_with: corpus checksum, threads, ranks and device.
    """

    path: Path
    tally: dict[str, Any]
    metrics_bytes: int
    made_with: dict[str, Any]

    @property
    def state(self) -> dict[str, Tensor]:
        """The model's tensors, mapped from the file."""
        return load_file(self.path.with_suffix(".safetensors"))


def save(
    folder: Path, model: Model, tally: dict[str, Any], metrics: Path, made_with: dict[str, Any]
) -> Path:
    """Write a checkpoint and delete all but the last two; returns its JSON. All ranks call it, the first alone writes.

    Raises: UserError if it cannot be written; those before it are still there then, and nothing half-written is.
    Cost: the tensors written, synced and read once for their checksum: 5 s a GiB on a shared virtual disk.
    """
    name = f"checkpoint-{tally['steps']:012d}"
    if (
        distributed.is_main_process()
        and shutil.disk_usage(folder).free
        < 1.1 * num_bytes(model.state()) * distributed.world_size()
    ):
        _keep_last(folder, KEPT - 1)
    path = folder / f"{name}.safetensors"
    save_model(path, model)
    if distributed.is_main_process():
        _save_rest(folder / f"{name}.json", path, tally, metrics, made_with)
        _keep_last(folder, KEPT)
    return folder / f"{name}.json"


def _save_rest(
    path: Path, tensors: Path, tally: dict[str, Any], metrics: Path, made_with: dict[str, Any]
) -> None:
    """Write the JSON that makes a checkpoint of the tensors' file."""
    try:
        sync(metrics)
        content = {
            "format_version": FORMAT_VERSION,
            "tensors": {"bytes": tensors.stat().st_size, "sha256": sha256(tensors)},
            "metrics_bytes": metrics.stat().st_size,
            "tally": tally,
            "made_with": made_with,
        }
        write_json(path, content | {"sha256": _content_sha256(content)})
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): free some space or choose another folder"
        ) from error


def newest(folder: Path, metrics: Path) -> Checkpoint | None:
    """The last checkpoint in the folder that is whole, saying which ones are not. Cost: reads it once for its checksum."""
    paths = sorted(folder.glob("checkpoint-*.json"), reverse=True)
    for path in paths:
        try:
            return _load(path, metrics)
        except UserError as error:
            log.warning("%s: taking the checkpoint before it", error)
            path.unlink(missing_ok=True)  # or it would count as the newest again
    if paths:
        log.warning("%s holds no whole checkpoint: starting anew", folder)
    return None


def remove_all(folder: Path) -> None:
    """Delete the folder's checkpoints, and what writers that were killed left of anything."""
    _keep_last(folder, 0)
    remove_drafts(folder)


def remove_drafts(folder: Path) -> None:
    """Delete what writers that were killed left behind. Only for the one process that may write in the folder."""
    for pattern in DRAFTS:
        for draft in folder.glob(pattern):
            draft.unlink(missing_ok=True)


def num_bytes(state: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


@dataclass
class CheckpointManager:
    """Writes the checkpoints of one run when they are due."""

    folder: Path
    metrics: Path
    model: Model
    made_with: dict[str, Any]
    _cost_s: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = time.monotonic()
        self._cost_s = num_bytes(self.model.state()) / FIRST_GUESS_BYTES_PER_S

    def is_due(self) -> bool:
        """Whether the last checkpoint is long enough ago; ranks differ in it."""
        return time.monotonic() - self._last >= max(MIN_INTERVAL_S, self._cost_s / SHARE)

    def save(self, tally: dict[str, Any]) -> Path | None:
        """Write a checkpoint, all ranks together; returns its JSON, or None, with a line in the log, if it could not be had."""
        start = time.monotonic()
        written = None
        try:
            # The loss of a later step will stop such a run; until then the checkpoints before it are the ones to keep.
            [is_sick] = distributed.all_reduce_max(
                not all(map(_is_finite, self.model.state().values()))
            )
            if not is_sick:
                written = save(self.folder, self.model, tally, self.metrics, self.made_with)
        except UserError as error:
            log.warning("no checkpoint at step %s: %s", f"{tally['steps']:,}", error)
        self._last = time.monotonic()
        self._cost_s = self._last - start
        return written


def _is_finite(tensor: Tensor) -> bool:
    """Whether all entries are finite, a stretch of rows at a time: the mask of a whole table would take a quarter of its memory."""
    return all(bool(torch.isfinite(rows).all()) for rows in tensor.split(ROWS_CHECKED))


def _load(path: Path, metrics: Path) -> Checkpoint:
    """Raises: UserError if anything of it is missing or not as it was written."""
    content = read_json(path)
    checksum = content.pop("sha256", None)
    if checksum != _content_sha256(content) or content["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path} is damaged or of another version")
    tensors = path.with_suffix(".safetensors")
    if not tensors.is_file() or sha256(tensors) != content["tensors"]["sha256"]:
        raise UserError(f"{tensors} is missing or damaged")
    if not metrics.is_file() or metrics.stat().st_size < content["metrics_bytes"]:
        raise UserError(f"{metrics} is shorter than when {path.name} was written")
    return Checkpoint(
        path.absolute(), content["tally"], content["metrics_bytes"], content["made_with"]
    )


def _keep_last(folder: Path, number: int) -> None:
    """Delete all checkpoints but the last `number`, each JSON before its tensors, and tensors without a JSON."""
    paths = sorted(folder.glob("checkpoint-*.json"))
    for path in paths[: len(paths) - number]:
        path.unlink(missing_ok=True)
    for tensors in folder.glob("checkpoint-*.safetensors"):
        if not tensors.with_suffix(".json").exists():
            tensors.unlink(missing_ok=True)


def _content_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
