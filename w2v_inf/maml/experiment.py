"""The comparison of MAML at finite widths, in the limit and with kernels: training and results.

TP4 Section 7 and its Table 4: 5-way 1-shot tasks, 32 tasks per update, inner learning rate 0.4,
clipping at 0.5. The weights of the best validation are tested with 20 inner steps.

Decisions:
- The authors tuned each width. A width takes the row of the largest tabulated width up to it, and
  width 1 that of 2. The limit takes the last row.
- `maml.betas` tunes beta again, for other images or fewer updates. Only validations decide.
- A cell is one training, or one kernel, with one seed. Its result and all that it depends on are
  stored when it ends, so that an interrupted comparison goes on where it stopped.
"""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.files import read_json, write_json
from w2v_inf.maml.kernels import KERNELS, kernel_right
from w2v_inf.maml.network import Network, init_limit, num_right, outer_step, sample
from w2v_inf.maml.tasks import ImageSets, Tasks, draw_tasks
from w2v_inf.theory.exhibit import Estimate, estimate_mean

log = logging.getLogger(__name__)

NUM_CLASSES, TASKS_PER_UPDATE = 5, 32
INNER_LR, MAX_NORM = 0.4, 0.5
TEST_STEPS = 20
UPDATES_PER_VALIDATION = 100
LIMIT = "muP limit"
MEND = "lower maml.betas, or check the images"


class Hyperparameters(NamedTuple):
    """What the authors tuned; alpha is 1 everywhere."""

    meta_lr: float
    sigma1: float
    sigma2: float
    beta: float


TUNED = {
    2: Hyperparameters(0.05, 0.5, 0.5, 2),
    8: Hyperparameters(0.1, 0.5, 0.25, 1),
    32: Hyperparameters(0.4, 1, 0.125, 0.5),
    128: Hyperparameters(0.1, 1, 0.125, 1),
    512: Hyperparameters(0.1, 1, 1 / 32, 1),
}
"""By the width from which a row holds."""


def hyperparameters(width: int | None, beta: float | None) -> Hyperparameters:
    """Those of a width, or of the limit if it is None; `beta` replaces the authors' if given."""
    row = max((w for w in TUNED if width is None or w <= width), default=min(TUNED))
    return TUNED[row] if beta is None else TUNED[row]._replace(beta=beta)


class Cell(NamedTuple):
    """One training or kernel; `width` is None for the limit and kernels."""

    learner: str
    width: int | None
    seed: int
    beta: float | None = None
    """In place of the authors'."""


class Result(NamedTuple):
    """Percent of query images classified rightly: in the test, and in the best validation."""

    test: float
    validation: float | None


Table = dict[str, list[float]]
"""Test accuracy in percent by learner, for each seed."""


def num_updates(config: Config, sets: ImageSets) -> int:
    """Outer steps of each training."""
    return config.maml.updates or (1000 if sets.name == "planted" else 10_000)


def compare(config: Config, sets: ImageSets, store: Path) -> Table:
    """The results of all learners and seeds, on the same tasks for each seed.

    Those that `store`, a JSON file, has are taken from there, and the others are added to it.
    """
    widths = {f"width {n:,}": n for n in config.maml.widths}
    learners: dict[str, int | None] = dict.fromkeys(KERNELS) | widths | {LIMIT: None}
    table: Table = {learner: [] for learner in learners}
    for seed in range(config.seed, config.seed + config.maml.seeds):
        for learner, width in learners.items():
            betas = [] if learner in KERNELS else config.maml.betas
            cells = (Cell(learner, width, seed, beta) for beta in betas or [None])
            results = [_get(cell, config, sets, store) for cell in cells]
            best = max(results, key=lambda result: result.get("validation") or 0)
            table[learner].append(best["test"])
    return table


def _get(cell: Cell, config: Config, sets: ImageSets, store: Path) -> dict[str, Any]:
    """The stored result of a cell, with all that it depends on; computed if it is not there."""
    is_kernel = cell.learner in KERNELS
    chosen = None if is_kernel else hyperparameters(cell.width, cell.beta)._asdict()
    wanted = {
        **cell._asdict(),
        "images": sets.name,
        "digest": sets.digest,
        "tasks": config.maml.tasks,
        "updates": None if is_kernel else num_updates(config, sets),
        "hyperparameters": chosen,
    }
    for stored in _read_store(store):
        if all(stored.get(key, store) == value for key, value in wanted.items()):
            return stored
    start = time.perf_counter()
    result = run_cell(cell, config, sets)
    seconds = time.perf_counter() - start
    beta = "" if cell.beta is None else f", beta {cell.beta:g}"
    name = f"{cell.learner}{beta}, seed {cell.seed}"
    log.info("%s: %.2f %%, %.0f s", name, result.test, seconds)
    new = wanted | result._asdict() | {"seconds": round(seconds, 1)}
    write_json(store, {"cells": [*_read_store(store), new]})
    return new


def _read_store(path: Path) -> list[dict[str, Any]]:
    """Raises: UserError if the file is damaged."""
    if not path.exists():
        return []
    cells: Any = read_json(path).get("cells")
    is_whole = isinstance(cells, list) and all(
        isinstance(cell, dict) and isinstance(cell.get("test"), float) for cell in cells
    )
    if not is_whole:
        raise UserError(f"{path} must hold results of w2v-inf maml: move it, or change plot.out")
    return cells


def run_cell(cell: Cell, config: Config, sets: ImageSets) -> Result:
    """Train the learner, unless it is a kernel, and test it."""
    test = _draw(sets.test, config.maml.tasks, cell.seed, 1)
    if cell.learner in KERNELS:
        return Result(_percent(kernel_right(KERNELS[cell.learner], test), test), None)
    network, validation = train(cell, config, sets)
    return Result(_percent(num_right(network, test, INNER_LR, TEST_STEPS), test), validation)


def train(cell: Cell, config: Config, sets: ImageSets) -> tuple[Network, float]:
    """The weights of the best validation, and its percentage.

    The seed gives the tasks, which are the same for every learner, and the initialisation. A
    training that diverges ends early.
    Raises: UserError if it diverges before the first validation.
    """
    meta_lr, sigma1, sigma2, beta = hyperparameters(cell.width, cell.beta)
    network = init_limit(sets.train.shape[2], NUM_CLASSES, sigma1, sigma2, beta=beta)
    if cell.width is not None:
        network = sample(network, cell.width, _generator(cell.seed, 2))
    validation = _draw(sets.validation, config.maml.tasks, cell.seed, 3)
    generator = _generator(cell.seed, 4)
    most, best, updates = -1, network, num_updates(config, sets)
    for update in range(1, updates + 1):
        tasks = draw_tasks(sets.train, TASKS_PER_UPDATE, NUM_CLASSES, generator)
        outer_step(network, tasks, INNER_LR, meta_lr, MAX_NORM)
        if update % UPDATES_PER_VALIDATION and update != updates:
            continue
        if not all(bool(w.isfinite().all()) for w in (network.u, network.v, network.b)):
            if most < 0:
                raise UserError(f"maml: weights are not finite after {update:,} updates: {MEND}")
            log.warning("%s: weights are not finite after %s updates", cell.learner, f"{update:,}")
            break
        right = num_right(network, validation, INNER_LR, 1)
        log.debug("update %s: %.2f %%", f"{update:,}", _percent(right, validation))
        if right > most:
            most, best = right, network.copy()
    return best, _percent(most, validation)


def _draw(classes: torch.Tensor, num_tasks: int, seed: int, use: int) -> Tasks:
    return draw_tasks(classes, num_tasks, NUM_CLASSES, _generator(seed, use))


def _generator(seed: int, use: int) -> torch.Generator:
    """Random numbers by seed and use."""
    [state] = np.random.SeedSequence((seed, use)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def _percent(right: int, tasks: Tasks) -> float:
    return 100 * right / tasks.query.numel()


def estimate(percent: list[float]) -> Estimate:
    """Mean over seeds, and its 95 % interval."""
    return estimate_mean(np.array(percent))
