"""Stage 7: the comparison of first-order MAML, its table and its figure."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from w2v_inf.config import Config
from w2v_inf.maml.experiment import LIMIT, Table, compare, estimate, num_updates
from w2v_inf.maml.omniglot import load_images
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.reporting.style import BLUE, ORANGE, PURPLE, TEAL, new_axes, save

LOOKS = {
    LIMIT: ("black", "--"),
    "ReLU NTK": (ORANGE, "-."),
    "ReLU GP": (TEAL, (0, (1, 1))),
    "linear kernel": (BLUE, ":"),
}
"""Colour and line style of what has no width."""


def maml(config: Config) -> Path:
    """Stage 7: compare MAML at finite widths, in the limit and with kernels; returns the folder.

    Prints the table and the paths of maml.json, maml.png and maml.svg in `plot.out` (default:
    RUNS_DIR/maml). Learners and seeds that maml.json has are not trained again.
    Cost: one core trains the limit on Omniglot at 34 ms per update; a finite width takes less.
    """
    folder = Path(config.plot.out) if config.plot.out else Path(config.runs_dir) / "maml"
    store = folder / "maml.json"
    sets = load_images(config)
    with training_threads(config.num_threads):
        table = compare(config, sets, store)
    print(format_table(table))
    title = f"First-order MAML, {sets.name}, 5-way 1-shot, {num_updates(config, sets):,} updates"
    for path in (store, *save(draw(table, config.maml.widths, title), folder, "maml")):
        print(path)
    return folder


def format_table(table: Table) -> str:
    """One line per learner."""
    rows = [f"{learner:<15} {estimate(percent)}" for learner, percent in table.items()]
    return "\n".join([f"{'':<15} accuracy, % [95 % interval]", *rows])


def draw(table: Table, widths: list[int], title: str) -> Figure:
    """Accuracy against width; the limit and kernels as lines with their intervals."""
    figure, (axes,) = new_axes()
    for learner, (colour, line) in LOOKS.items():
        mean, low, high = estimate(table[learner])
        axes.axhline(mean, color=colour, linestyle=line, label=learner)
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
    if widths:
        finite = sorted((n, *estimate(table[f"width {n:,}"])) for n in widths)
        n, means, lows, highs = np.array(finite).T
        errors = np.stack([means - lows, highs - means])
        axes.errorbar(n, means, errors, color=PURPLE, marker="o", capsize=3, label="finite width")
        axes.set_xscale("log", base=2)
        axes.set_xticks(n, [f"{width:,.0f}" for width in n])
    axes.set(xlabel="width n", ylabel="accuracy (%)", title=title)
    axes.legend(frameon=False)
    return figure
