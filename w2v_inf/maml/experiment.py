"""The comparison of MAML at finite widths, in the limit and with a kernel: training, table, figure.

TP4 Section 7: 5-way 1-shot tasks, 32 tasks per update, inner learning rate 0.4, clipping at 0.5,
meta learning rate 0.1, s1 = 1, s2 = 1/32. The weights of the best validation are tested
with 20 inner steps. All widths take these values, while the authors tuned them for each width.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from w2v_inf.errors import UserError, check_range
from w2v_inf.files import write_json
from w2v_inf.maml.network import (
    Network,
    Tasks,
    init_limit,
    kernel_right,
    num_right,
    outer_step,
    sample,
)
from w2v_inf.maml.tasks import ImageSets, draw_tasks
from w2v_inf.reporting.style import PURPLE, new_axes, save
from w2v_inf.theory.exhibit import Estimate, estimate_mean

log = logging.getLogger(__name__)

NUM_CLASSES, TASKS_PER_UPDATE = 5, 32
INNER_LR, META_LR, MAX_NORM = 0.4, 0.1, 0.5
SCALES = (1.0, 1 / 32)
TEST_STEPS = 20


@dataclass(frozen=True)
class Options:
    """What a user chooses."""

    updates: int = 1000
    """Outer steps. The paper takes 10,000."""
    widths: tuple[int, ...] = (2, 8, 32, 128, 512)
    seeds: int = 3
    """At least 2, for intervals."""
    num_validations: int = 10
    """Validations during training. The paper takes 100."""
    num_tasks: int = 3200
    """Tasks of each validation and of the test."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("updates", 1, 10**7),
            ("seeds", 2, 1000),
            ("num_validations", 1, self.updates),
            ("num_tasks", 1, 10**6),
        ):
            check_range(f"maml: {name}", getattr(self, name), low, high)
        for width in self.widths:
            check_range("maml: widths", width, 1, 10**6)
        if len({*self.widths}) < len(self.widths):
            raise UserError(f"maml: widths must differ, got {list(self.widths)}")


class Accuracy(NamedTuple):
    """Percent of query images classified rightly, by seed; `width` is None for the limit."""

    name: str
    width: int | None
    percent: list[float]


def compare(sets: ImageSets, options: Options) -> list[Accuracy]:
    """Train each width and the limit, and ask the kernel: on the same tasks for each seed."""
    table = [Accuracy("linear kernel", None, [])]
    table += [Accuracy(f"width {n:,}", n, []) for n in options.widths]
    table.append(Accuracy("muP limit", None, []))
    for seed in range(options.seeds):
        test = _draw(sets.test, options.num_tasks, seed, 1)
        for accuracy in table:
            start = time.perf_counter()
            if accuracy.name == "linear kernel":
                right = kernel_right(test)
            else:
                best = train(sets, options, accuracy.width, seed)
                right = num_right(best, test, INNER_LR, TEST_STEPS)
            accuracy.percent.append(100 * right / test.query[..., 0].numel())
            line = f"{accuracy.name}, seed {seed}: {accuracy.percent[-1]:.2f} %"
            log.info("%s, %.0f s", line, time.perf_counter() - start)
    return table


def train(sets: ImageSets, options: Options, width: int | None, seed: int) -> Network:
    """Train a network, or the limit if `width` is None; returns the weights of the best validation.

    The seed gives the tasks, which are the same for every width, and the initialisation.
    """
    network = init_limit(sets.train.shape[2], NUM_CLASSES, SCALES)
    if width is not None:
        network = sample(network, width, torch.Generator().manual_seed(1000 * seed + 2))
    validation = _draw(sets.validation, options.num_tasks, seed, 3)
    generator = torch.Generator().manual_seed(1000 * seed + 4)
    most, best = -1, network
    for update in range(1, options.updates + 1):
        tasks = draw_tasks(sets.train, TASKS_PER_UPDATE, NUM_CLASSES, generator)
        outer_step(network, tasks, INNER_LR, META_LR, MAX_NORM)
        if update * options.num_validations // options.updates == (
            (update - 1) * options.num_validations // options.updates
        ):
            continue
        if not all(bool(w.isfinite().all()) for w in (network.u, network.v, network.b)):
            raise UserError(f"maml: weights are not finite after {update:,} updates: check images")
        right = num_right(network, validation, INNER_LR, 1)
        log.info("update %s: %.2f %%", f"{update:,}", 100 * right / (5 * options.num_tasks))
        if right > most:
            most, best = right, network.copy()
    return best


def _draw(images: torch.Tensor, num_tasks: int, seed: int, use: int) -> Tasks:
    """Tasks by seed and use."""
    generator = torch.Generator().manual_seed(1000 * seed + use)
    return draw_tasks(images, num_tasks, NUM_CLASSES, generator)


def estimate(accuracy: Accuracy) -> Estimate:
    """Mean over seeds, and its 95 % interval."""
    return estimate_mean(np.array(accuracy.percent))


def format_table(table: Sequence[Accuracy]) -> str:
    """One line per learner."""
    rows = [f"{a.name:<15} {estimate(a):.2f}" for a in table]
    return "\n".join([f"{'':<15} accuracy, % [95 % interval]", *rows])


def write(table: Sequence[Accuracy], sets: ImageSets, options: Options, folder: Path) -> list[Path]:
    """Write maml.json, maml.png and maml.svg; returns their paths."""
    by_name = {accuracy.name: accuracy.percent for accuracy in table}
    content = {"images": sets.name, "options": vars(options), "percent_by_seed": by_name}
    write_json(folder / "maml.json", content)
    return [folder / "maml.json", *_draw_figure(table, sets, options, folder)]


def _draw_figure(
    table: Sequence[Accuracy], sets: ImageSets, options: Options, folder: Path
) -> list[Path]:
    figure, (axes,) = new_axes()
    looks = {"muP limit": ("black", "--"), "linear kernel": ("0.45", ":")}
    for accuracy in table:
        if accuracy.width is None:
            mean, low, high = estimate(accuracy)
            colour, line = looks[accuracy.name]
            axes.axhline(mean, color=colour, linestyle=line, label=accuracy.name)
            axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
    finite = [(a.width, *estimate(a)) for a in table if a.width is not None]
    if finite:
        widths, means, lows, highs = np.array(sorted(finite)).T
        errors = np.stack([means - lows, highs - means])
        axes.errorbar(
            widths, means, errors, color=PURPLE, marker="o", capsize=3, label="finite width"
        )
        axes.set_xscale("log", base=2)
    title = f"First-order MAML, {sets.name}, 5-way 1-shot, {options.updates:,} updates"
    axes.set(xlabel="width n", ylabel="accuracy (%)", title=title)
    axes.legend(frameon=False)
    return save(figure, folder, "maml")
