"""Sentences and tables about finished runs, computed from the runs whatever the outcome.

Decisions:
- Two models differ by more than noise if their means differ by more than two standard errors.
  Several seeds give the standard error; a single seed takes that of a share of as many questions.
  The latter is too wide for models that answer the same questions, so it errs on the safe side.
- If no model solves more than `MIN_ACCURACY` percent, analogies rank nothing. The headline says so.
- The headline is about the limits and plain muP networks; the tables list the others too. If the
  muP limit was trained by both engines, the headline takes the dense one.
- The headline has three sentences at most. It says so if the NTK limit barely trains at the
  learning rate of the other models: an accuracy of 0 then means little.
- Text tables and HTML tables are made from the same rows: lists of cells, the first row the header.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from w2v_inf.config import Sigmoid
from w2v_inf.runs.results import (
    MeanStd,
    ModelKey,
    Run,
    by_model,
    group_runs,
    group_titles,
    mean_std,
)
from w2v_inf.tables import Table, align

MIN_ACCURACY = 2.0
MIN_FALL = 10.0
"""Percent of its initial value by which the loss of a trained model must fall."""
PAPER_TEXT8 = {
    "NTK limit": 0.0,
    "width 64": 33.35,
    "width 256": 41.58,
    "width 1,024": 42.56,
    "muP limit": 43.31,
}
"""Analogy accuracy in percent by `ModelKey.label`.

Source: TP4 (arXiv 2011.14522), CBOW on text8, V = 71,291.
"""
PAPER_COLUMN = "paper, V = 71,291 (%)"


class Column(NamedTuple):
    """One column of the result table."""

    header: str
    value: Callable[[Run], float]
    digits: str
    """Format of the numbers."""


QUALITY = (
    Column("analogies (%)", lambda run: run.accuracy(), ".2f"),
    Column("semantic (%)", lambda run: run.accuracy("semantic"), ".2f"),
    Column("syntactic (%)", lambda run: run.accuracy("syntactic"), ".2f"),
    Column("3CosMul (%)", lambda run: run.accuracy(rule="3cosmul"), ".2f"),
    Column("all pairs (%)", lambda run: run.pairs_accuracy(), ".2f"),
    Column("WordSim-353", lambda run: run.similarity("wordsim353"), ".3f"),
    Column("SimLex-999", lambda run: run.similarity("simlex999"), ".3f"),
)
COST = (
    Column("loss (nats)", lambda run: run.number("loss_nats"), ".4f"),
    Column("wall (s)", lambda run: run.number("wall_s"), ",.0f"),
    Column("CPU (s)", lambda run: run.number("cpu_s"), ",.0f"),
    Column("words/s", lambda run: run.number("words_per_s"), ",.0f"),
    Column("peak (GiB)", lambda run: run.number("peak_rss_bytes") / 2**30, ".2f"),
)
TERMINAL = (*QUALITY[:3], QUALITY[5], *COST[:2], COST[-1])
"""The columns that fit a terminal."""


def comparable_with_paper(runs: list[Run]) -> bool:
    """Whether the paper's values belong beside these runs: CBOW on text8, without phrases.

    The vocabulary may differ; every table therefore states the paper's V = 71,291.
    """
    return runs[0].group.corpus == "text8" and runs[0].group.architecture == "cbow"


def format_mean_std(value: MeanStd, digits: str) -> str:
    """`mean ± sd`; the mean alone for one seed, a dash for none."""
    if value.n == 0:
        return "–"
    return f"{value.mean:{digits}}" + ("" if math.isnan(value.sd) else f" ± {value.sd:{digits}}")


def result_table(runs: list[Run], columns: tuple[Column, ...] = QUALITY + COST) -> Table:
    """A row per model of one group.

    Beside accuracies on a comparable corpus, the paper's accuracy is the last column.
    """
    paper = columns[0] is QUALITY[0] and comparable_with_paper(runs)
    headers = [column.header for column in columns]
    table = [["model", "seeds", *headers, *([PAPER_COLUMN] if paper else [])]]
    for model, seeds in by_model(runs).items():
        values = [mean_std(map(column.value, seeds)) for column in columns]
        cells = [format_mean_std(v, c.digits) for v, c in zip(values, columns, strict=True)]
        if paper:
            published = PAPER_TEXT8.get(model.label)
            cells.append("–" if published is None else f"{published:.2f}")
        table.append([model.label, str(len(seeds)), *cells])
    return table


def distance_table(runs: list[Run]) -> Table:
    """A row per model that was compared with the limit; empty if none was."""
    rows = []
    for model, seeds in by_model(runs).items():
        values = [
            mean_std(run.limit_distance(name) for run in seeds)
            for name in ("gram_error", "neighbour_overlap")
        ]
        if any(value.n for value in values):
            cells = [format_mean_std(value, ".3f") for value in values]
            rows.append([model.label, str(len(seeds)), *cells])
    return [["model", "seeds", "cosine-Gram error", "neighbour overlap"], *rows] if rows else []


def format_table(runs: list[Run]) -> str:
    """The results as plain text, a table per group: NTK limit, ascending widths, muP limit."""
    groups = group_runs(runs)
    blocks = []
    for group, title in group_titles(groups).items():
        group_of_runs = groups[group]
        mark = "  SYNTHETIC corpus" if group_of_runs[0].summary.synthetic else ""
        lines = align(result_table(group_of_runs, TERMINAL))
        blocks.append("\n".join([title + mark, protocol_sentence(group_of_runs), *lines]))
    return "\n\n".join(blocks)


def protocol_sentence(runs: list[Run]) -> str:
    """How the numbers of a group were measured, in one line."""
    total = runs[0].analogy_counts().get("total") or {}
    seen = f"{total.get('questions', 0):,} of {total.get('total', 0):,} questions seen"
    chance = runs[0].summary.evaluation.get("chance")
    tail = "" if chance is None else f", chance {chance:.2g} %"
    words = f"3CosAdd over all {runs[0].group.vocab_size:,} words"
    return f"{words}, {seen}{tail}; mean ± standard deviation over seeds"


def headline(runs: list[Run]) -> list[str]:
    """What the runs of one group show, in up to three sentences: NTK limit, width, muP limit."""
    models = {
        model: seeds
        for model, seeds in by_model(runs).items()
        if model.is_compared and _accuracy(seeds).n
    }
    if not models:
        return [
            "No analogy question lies inside the vocabulary. "
            "Compare losses, neighbours and distances to the limit instead."
        ]
    best = max(_accuracy(seeds).mean for seeds in models.values())
    if best < MIN_ACCURACY:
        return [
            f"No model solves more than {best:.1f} % of the analogies: too few to rank the models. "
            "Losses, neighbours and distances to the limit say more on this corpus."
        ]
    finite = [model for model in models if model.kind == "finite"]
    return [
        *_ntk_sentence(models),
        _width_sentence(models, finite),
        _limit_sentence(models, finite),
    ]


def _accuracy(runs: list[Run]) -> MeanStd:
    return mean_std(run.accuracy() for run in runs)


def _noise(a: list[Run], b: list[Run]) -> float:
    """Two standard errors of the difference of two mean accuracies, in percentage points."""
    return 2 * math.sqrt(_squared_error(a) + _squared_error(b))


def _squared_error(runs: list[Run]) -> float:
    value = _accuracy(runs)
    if value.n > 1:
        return value.sd**2 / value.n
    questions = (runs[0].analogy_counts().get("total") or {}).get("questions") or 1
    return value.mean * (100 - value.mean) / questions


def _verdict(difference: float, noise: float) -> str:
    return f"noise {noise:.1f}" + ("" if abs(difference) > noise else ": not resolved")


def _ntk_sentence(models: dict[ModelKey, list[Run]]) -> list[str]:
    ntk = next((seeds for model, seeds in models.items() if model.kind == "ntk_limit"), None)
    if ntk is None:
        return []
    accuracy, chance = _accuracy(ntk).mean, float(ntk[0].summary.evaluation.get("chance") or 0)
    solves = f"The NTK limit solves {accuracy:.1f} % of the analogies"
    if accuracy > max(10 * chance, 0.5):
        return [f"{solves}, above chance ({chance:.2g} %): the theory does not expect that."]
    learns = "it learns no features, as the theory says"
    barely = any(abs(moved) < MIN_FALL for moved in _loss_moves(ntk).values())
    tail = ", but at this learning rate it barely trains" if barely else ""
    return [f"{solves} (chance {chance:.2g} %): {learns}{tail}."]


def ntk_loss_sentence(runs: list[Run]) -> list[str]:
    """How far the NTK limit's loss moved from the loss of zero logits; empty without that limit.

    The muP limit, or else the widest network, stands beside it.
    """
    moves = _loss_moves(runs)
    ntk = next((model for model in moves if model.kind == "ntk_limit"), None)
    if ntk is None:
        return []
    best, initial = max(moves), _initial_loss(runs)
    beside = "" if best == ntk else f"; {best.label} {moves[best]:+.1f} %"
    barely = ": at the learning rate that all models share it barely trains"
    verdict = barely if abs(moves[ntk]) < MIN_FALL else ""
    path = (
        f"from {initial:.2f} nats per example at zero logits, (1 + K) log 2, "
        f"to {initial * (1 + moves[ntk] / 100):.2f} in the last epoch"
    )
    return [f"The NTK limit's loss went {path} ({moves[ntk]:+.1f} %{beside}){verdict}."]


def _loss_moves(runs: list[Run]) -> dict[ModelKey, float]:
    """By model: how far its loss moved from the loss of zero logits, in percent of that.

    Negatives equal to the target are skipped, so the first examples cost that share less (about
    1/V for even counts). Empty with the authors' sigmoid table, which gives zero logits another
    loss.
    """
    if runs[0].config.train.sigmoid is not Sigmoid.exact:
        return {}
    losses = {
        model: mean_std(run.number("loss_nats") for run in seeds).mean
        for model, seeds in by_model(runs).items()
        if model.is_compared
    }
    initial = _initial_loss(runs)
    return {
        model: 100 * (loss / initial - 1) for model, loss in losses.items() if not math.isnan(loss)
    }


def _initial_loss(runs: list[Run]) -> float:
    """The loss of zero logits, nats per example."""
    return (1 + runs[0].config.stream.num_negatives) * math.log(2)


def _width_sentence(models: dict[ModelKey, list[Run]], finite: list[ModelKey]) -> str:
    if len(finite) < 2:
        return "With fewer than two widths the runs cannot say whether wider is better."
    means = [_accuracy(models[model]).mean for model in finite]
    gain, noise = means[-1] - means[0], _noise(models[finite[0]], models[finite[-1]])
    rises = all(b > a for a, b in pairwise(means))
    verb = "rises with width at every step" if rises else "does not rise with width at every step"
    numbers = f"{', '.join(f'{mean:.1f}' for mean in means)} % {_at_widths(finite)}"
    ends = f"{gain:+.1f} points from end to end, {_verdict(gain, noise)}"
    return f"Accuracy {verb}: {numbers} ({ends})."


def _at_widths(models: Iterable[ModelKey]) -> str:
    return f"at widths {', '.join(f'{model.width:,}' for model in models)}"


def _limit_sentence(models: dict[ModelKey, list[Run]], finite: list[ModelKey]) -> str:
    limit = next((model for model in models if model.kind == "mup_limit"), None)
    if limit is None:
        return "The runs do not include the muP limit."
    value = _accuracy(models[limit]).mean
    if not finite:
        solves = f"The {limit.label} solves {value:.1f} % of the analogies"
        return f"{solves}; the runs include no finite network."
    best = max(finite, key=lambda model: _accuracy(models[model]).mean)
    lead = value - _accuracy(models[best]).mean
    verdict = _verdict(lead, _noise(models[limit], models[best]))
    verb, side = ("is best", "above") if lead > 0 else ("is not best", "below")
    beside = f"{abs(lead):.1f} points {side} the best finite network, {best.label}"
    return f"The {limit.label} {verb}: {value:.1f} %, {beside} ({verdict})."


def distance_sentence(runs: list[Run]) -> list[str]:
    """Whether embeddings come closer to the limit's with width; empty for fewer than two widths."""
    errors = {
        model: mean_std(run.limit_distance("gram_error") for run in seeds).mean
        for model, seeds in by_model(runs).items()
        if model.kind == "finite" and not model.variant
    }
    errors = {model: error for model, error in errors.items() if error > 0}
    if len(errors) < 2:
        return []
    closer = all(b < a for a, b in pairwise(errors.values()))
    verb = "come closer" if closer else "do not come closer at every step"
    numbers = f"{', '.join(f'{error:.3f}' for error in errors.values())} {_at_widths(errors)}"
    limits = [run for run in runs if run.model.kind == "mup_limit"]
    if limits and all(run.summary.approximation for run in limits):
        return [
            f"With width the embeddings {verb} to those of the low-rank limit: cosine-Gram error "
            f"{numbers}. The approximation error of that limit is included in each number."
        ]
    slope = np.polyfit(np.log([m.width for m in errors]), np.log(list(errors.values())), 1)[0]
    expected = f" (log-log slope {slope:.2f}; random fluctuations give -0.5)"
    tail = expected if len(errors) > 2 else ""
    return [f"With width the embeddings {verb} to the limit's: cosine-Gram error {numbers}{tail}."]


def approximation_sentence(runs: list[Run]) -> list[str]:
    """How accurate a low-rank limit is by its own diagnostics."""
    limits = [run.summary.approximation or {} for run in runs if run.model.kind == "mup_limit"]
    known = [diagnostics for diagnostics in limits if diagnostics]
    if not known:
        return []
    widest = max(known, key=lambda diagnostics: diagnostics["rank"])
    outside = f"{100 * widest['energy_outside']:.1f} % of the output embedding's energy"
    return [
        f"The low-rank limit is exact on {widest['rank']:,} directions. Outside them, where "
        f"{outside} lies, it is of first order in the training. docs/lowrank.md compares such runs "
        "with the exact limit." + _tolerance_sentence(known)
    ]


def _tolerance_sentence(known: list[dict[str, Any]]) -> str:
    """Whether model.tolerance was kept; empty if none was set."""
    asked = [diagnostics for diagnostics in known if "tolerance" in diagnostics]
    if not asked:
        return ""
    worst = max(asked, key=lambda diagnostics: diagnostics["residual_energy"])
    kept = all(diagnostics["tolerance_reached"] for diagnostics in asked)
    return (
        f" model.tolerance={worst['tolerance']:g} was {'kept' if kept else 'NOT reached'}: "
        f"the residual energy is {worst['residual_energy']:.3g} of what the pilot run learnt."
    )
