"""Checkpoints: an interrupted run resumes from the last one, and ends with the same bits.

Decisions:
- A checkpoint is two files. checkpoint-STEP.safetensors holds the model's tensors.
  checkpoint-STEP.json, written second, holds the train state and the checksums of both.
- Each file is written to a draft, synced and renamed (`files.write_atomically`). After a kill or a
  power cut every checkpoint is whole.
- The stream is keyed by epoch and block, and models keep no state but their tensors. So the
  position in the text, the tensors and the running sums suffice. Nothing is pickled.
- Training waits while a checkpoint is written: a copy to write from would double the memory of the
  limits. The interval keeps the waiting below `SHARE` of the time, whatever the disk.
- The last two are kept. The oldest stays until the third is written, unless the disk is too full.
- A full disk costs the checkpoint, not the run.
- Over several processes the main one writes the tensors of all, some rows at a time. Any number of
  processes can resume from them.
"""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.errors import UserError
from w2v_inf.evaluation.finite_check import is_finite
from w2v_inf.files import read_json, sha256, sync, write_json
from w2v_inf.models.protocol import Model
from w2v_inf.runs.weights import save_model
from w2v_inf.system_errors import system_error

FORMAT_VERSION = 3
NUM_KEPT = 2
MIN_INTERVAL_S = 60.0
SHARE = 0.02
"""Largest share of the training time spent on checkpoints."""
DEFAULT_BYTES_PER_S = 2e8
"""Assumed speed of the first checkpoint; later ones go by the speed of the last."""
DRAFTS = (".[0-9]*-*", ".tmp??????")
"""Names of half-written files: those of `files.write_atomically`, and those of safetensors, which
fills a file of its own before it renames that to our draft."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, its checksums verified.

    train_state: the fields of `progress.TrainState`.
    metrics_bytes: the length of metrics.jsonl at the checkpoint.
    provenance: corpus checksum, threads, processes and device.
    """

    path: Path
    train_state: dict[str, Any]
    metrics_bytes: int
    provenance: dict[str, Any]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The model's tensors, mapped from the file."""
        return load_file(self.path.with_suffix(".safetensors"))


def save(
    folder: Path,
    model: Model,
    train_state: dict[str, Any],
    metrics: Path,
    provenance: dict[str, Any],
    state: dict[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint and delete all but the last two; returns the path of its JSON.

    All processes call this; only the main one writes.
    state: of the model, if the caller has it: that of the low-rank limit is a copy.
    Raises: UserError if the checkpoint cannot be written. Earlier ones are then still there, and no
      half-written file is.
    Cost: one write, sync and read of the tensors; 5 s per GiB on a shared virtual disk.
    """
    stem = f"checkpoint-{train_state['steps']:012d}"
    state = model.state() if state is None else state
    needed = 1.1 * num_bytes(state) * distributed.world_size()
    if distributed.is_main_process() and shutil.disk_usage(folder).free < needed:
        _keep_last(folder, NUM_KEPT - 1)
    tensors, path = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    save_model(tensors, model, state)
    if distributed.is_main_process():
        _save_json(path, tensors, train_state, metrics, provenance)
        _keep_last(folder, NUM_KEPT)
    return path


def _save_json(
    path: Path,
    tensors: Path,
    train_state: dict[str, Any],
    metrics: Path,
    provenance: dict[str, Any],
) -> None:
    """Write the JSON that completes a checkpoint."""
    try:
        sync(metrics)
        content = {
            "format_version": FORMAT_VERSION,
            "tensors": {"bytes": tensors.stat().st_size, "sha256": sha256(tensors)},
            "metrics_bytes": metrics.stat().st_size,
            "train_state": train_state,
            "provenance": provenance,
        }
        write_json(path, content | {"sha256": _content_sha256(content)})
    except OSError as error:
        raise system_error(path, error, "written") from error


def load_newest(folder: Path, metrics: Path) -> Checkpoint | None:
    """The last whole checkpoint of the folder; logs which ones are damaged.

    Cost: one read of the tensors, for their checksum.
    """
    paths = sorted(folder.glob("checkpoint-*.json"), reverse=True)
    for path in paths:
        try:
            return _load(path, metrics)
        except UserError as error:
            log.warning("%s: taking the checkpoint before it", error)
            path.unlink(missing_ok=True)  # or it would be the newest again
    if paths:
        log.warning("%s holds no whole checkpoint: training starts from the beginning", folder)
    return None


def remove_all(folder: Path) -> None:
    """Delete the folder's checkpoints, and the drafts of killed processes."""
    _keep_last(folder, 0)
    remove_drafts(folder)


def remove_drafts(folder: Path) -> None:
    """Delete half-written files. Only for the one process that may write in the folder."""
    for pattern in DRAFTS:
        for draft in folder.glob(pattern):
            draft.unlink(missing_ok=True)


def num_bytes(tensors: dict[str, Tensor]) -> int:
    """The size of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@dataclass
class CheckpointManager:
    """Writes the checkpoints of one run when they are due."""

    folder: Path
    metrics: Path
    model: Model
    provenance: dict[str, Any]
    _cost_s: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = time.monotonic()
        self._cost_s = num_bytes(self.model.state()) / DEFAULT_BYTES_PER_S

    def is_due(self) -> bool:
        """Whether the last checkpoint is long enough ago. Processes may disagree."""
        return time.monotonic() - self._last >= max(MIN_INTERVAL_S, self._cost_s / SHARE)

    def save(self, train_state: dict[str, Any]) -> Path | None:
        """Write a checkpoint, all processes together.

        Returns the path of its JSON; None, with a line in the log, if it cannot be written.
        """
        start = time.monotonic()
        path = None
        try:
            # A later loss will stop a run with infinite weights. Until then the earlier
            # checkpoints are the ones to keep.
            state = self.model.state()  # once: it may be a copy
            [is_diverged] = distributed.all_reduce_max(not all(map(is_finite, state.values())))
            if not is_diverged:
                what = self.model, train_state, self.metrics, self.provenance, state
                path = save(self.folder, *what)
        except UserError as error:
            log.warning("no checkpoint at step %s: %s", f"{train_state['steps']:,}", error)
        self._last = time.monotonic()
        self._cost_s = self._last - start
        return path


def _load(path: Path, metrics: Path) -> Checkpoint:
    """Raises: UserError if a part is missing or not as it was written."""
    content = read_json(path)
    checksum = content.pop("sha256", None)
    if checksum != _content_sha256(content) or content["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path} is damaged or of another version")
    tensors = path.with_suffix(".safetensors")
    if not tensors.is_file() or sha256(tensors) != content["tensors"]["sha256"]:
        raise UserError(f"{tensors} is missing or damaged")
    if not metrics.is_file() or metrics.stat().st_size < content["metrics_bytes"]:
        raise UserError(f"{metrics} is shorter than when {path.name} was written")
    parts = (content[name] for name in ("train_state", "metrics_bytes", "provenance"))
    return Checkpoint(path.absolute(), *parts)


def _keep_last(folder: Path, number: int) -> None:
    """Delete all but the last `number` checkpoints, each JSON first, and tensors without a JSON."""
    paths = sorted(folder.glob("checkpoint-*.json"))
    for path in paths[: len(paths) - number]:
        path.unlink(missing_ok=True)
    for tensors in folder.glob("checkpoint-*.safetensors"):
        if not tensors.with_suffix(".json").exists():
            tensors.unlink(missing_ok=True)


def _content_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
