"""What finished runs say, as sentences and as tables: computed from the runs, whichever way it comes out.

Decisions:
- Two models differ by more than noise if their means differ by more than two standard errors: over seeds where a model has
  several, else that of a share of so many questions (too wide for models that answer the same questions, so on the safe side).
- Where no model solves more than `MIN_ACCURACY` percent, analogies rank nothing, and the headline says that instead.
- Only the limits and muP nets enter the headline, the muP limit by its dense engine where there are both; others are in the table.
- That the NTK limit solves nothing is read beside how far its loss moved: at the step size of the others it may barely train.
"""

import math
from collections.abc import Callable
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

MIN_ACCURACY = 2.0
MIN_FALL = 10.0
"""Percent of its start by which a loss must fall for the model to count as trained."""
PAPER_TEXT8 = {
    "NTK limit": 0.0,
    "width 64": 33.35,
    "width 256": 41.58,
    "width 1,024": 42.56,
    "muP limit": 43.31,
}
"""TP4 (arXiv 2011.14522), CBOW on text8, V = 71,291: word analogy accuracy in percent, by `ModelKey.label`."""


class Column(NamedTuple):
    """One column of the result table."""

    head: str
    value: Callable[[Run], float]
    form: str


QUALITY = (
    Column("analogies (%)", lambda run: run.accuracy(), ".2f"),
    Column("semantic (%)", lambda run: run.accuracy("semantic"), ".2f"),
    Column("syntactic (%)", lambda run: run.accuracy("syntactic"), ".2f"),
    Column("3CosMul (%)", lambda run: run.accuracy(rule="3cosmul"), ".2f"),
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
TERMINAL = (*QUALITY[:3], QUALITY[4], *COST[:2], COST[-1])
"""The columns that fit a terminal."""


def comparable_with_paper(runs: list[Run]) -> bool:
    """Whether the paper's values belong beside these runs: CBOW on text8 itself (at V = 71,291, which every table says)."""
    return runs[0].config.corpus.name == "text8" and runs[0].group.architecture == "cbow"


def format_spread(value: MeanStd, form: str) -> str:
    """`mean ± sd`, the mean alone for one seed, a dash for none."""
    if value.n == 0:
        return "–"
    return f"{value.mean:{form}}" + ("" if math.isnan(value.sd) else f" ± {value.sd:{form}}")


def result_table(runs: list[Run], columns: tuple[Column, ...] = QUALITY + COST) -> list[list[str]]:
    """Header and a row a model of one group; the paper's text8 accuracy last where accuracies are shown and it is comparable."""
    paper = columns[0] is QUALITY[0] and comparable_with_paper(runs)
    table = [
        [
            "model",
            "seeds",
            *(column.head for column in columns),
            *(["paper, V = 71,291 (%)"] if paper else []),
        ]
    ]
    for model, own in by_model(runs).items():
        cells = [
            format_spread(mean_std(column.value(run) for run in own), column.form)
            for column in columns
        ]
        theirs = PAPER_TEXT8.get(model.label)
        table.append(
            [
                model.label,
                str(len(own)),
                *cells,
                *(["–" if theirs is None else f"{theirs:.2f}"] if paper else []),
            ]
        )
    return table


def distance_table(runs: list[Run]) -> list[list[str]]:
    """Header and a row a model that was compared with the limit's run; empty if none was."""
    columns = ("gram_error", "neighbour_overlap")
    rows = []
    for model, own in by_model(runs).items():
        values = [mean_std(run.limit_distance(name) for run in own) for name in columns]
        if any(value.n for value in values):
            rows.append(
                [model.label, str(len(own)), *(format_spread(value, ".3f") for value in values)]
            )
    return [["model", "seeds", "cosine-Gram error", "neighbour overlap"], *rows] if rows else []


def format_table(runs: list[Run]) -> str:
    """The results as plain text for a terminal, a table a group: NTK limit, widths ascending, muP limit."""
    groups = group_runs(runs)
    blocks = []
    for group, title in group_titles(groups).items():
        own = groups[group]
        mark = "  SYNTHETIC corpus" if own[0].summary.get("synthetic") else ""
        table = result_table(own, TERMINAL)
        blocks.append("\n".join([title + mark, protocol_sentence(own), *align(table)]))
    return "\n\n".join(blocks)


def align(table: list[list[str]]) -> list[str]:
    """Rows as lines: first column to the left, the others to the right, two blanks between, a rule under the header."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in table
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def protocol_sentence(runs: list[Run]) -> str:
    """How the numbers of a group were measured, in one line."""
    total = runs[0].tally().get("total") or {}
    seen = f"{total.get('questions', 0):,} of {total.get('total', 0):,} questions seen"
    chance = runs[0].summary["evaluation"].get("chance")
    tail = "" if chance is None else f", chance {chance:.2g} %"
    return f"3CosAdd over all {runs[0].group.vocab_size:,} words, {seen}{tail}; mean ± standard deviation over seeds"


def headline(runs: list[Run]) -> list[str]:
    """What the runs of one group show, in sentences: NTK limit, width, muP limit, the NTK limit's loss, distance to the limit."""
    models = {
        m: own
        for m, own in by_model(runs).items()
        if m.is_compared and mean_std(run.accuracy() for run in own).n
    }
    finite = [m for m in models if m.rank == 1]
    sentences = []
    if not models:
        sentences.append(
            "No analogy question lies inside the vocabulary: losses, neighbours and distances to the limit are what there is to compare."
        )
    elif (best := max(_accuracy(own).mean for own in models.values())) < MIN_ACCURACY:
        sentences.append(
            f"No model solves more than {best:.1f} % of the analogies: too few to rank the models by. "
            "Losses, neighbours and distances to the limit say more on this corpus."
        )
    else:
        sentences += [
            *_ntk_sentence(models),
            *_width_sentence(models, finite),
            *_limit_sentence(models, finite),
        ]
    return [
        *sentences,
        *ntk_loss_sentence(runs),
        *_distance_sentence(runs),
        *_approximation_sentence(runs),
    ]


def _accuracy(runs: list[Run]) -> MeanStd:
    return mean_std(run.accuracy() for run in runs)


def _noise(a: list[Run], b: list[Run]) -> float:
    """Two standard errors of the difference of two mean accuracies, in points."""
    return 2 * math.sqrt(_squared_error(a) + _squared_error(b))


def _squared_error(runs: list[Run]) -> float:
    value = _accuracy(runs)
    if value.n > 1:
        return value.sd**2 / value.n
    questions = (runs[0].tally().get("total") or {}).get("questions") or 1
    return value.mean * (100 - value.mean) / questions


def _verdict(difference: float, noise: float) -> str:
    return f"noise {noise:.1f}" + ("" if abs(difference) > noise else ": not resolved")


def _ntk_sentence(models: dict[ModelKey, list[Run]]) -> list[str]:
    ntk = next((own for m, own in models.items() if m.rank == 0), None)
    if ntk is None:
        return []
    accuracy, chance = _accuracy(ntk).mean, float(ntk[0].summary["evaluation"].get("chance") or 0)
    if accuracy <= max(10 * chance, 0.5):
        return [
            f"The NTK limit solves {accuracy:.1f} % of the analogies (chance {chance:.2g} %): it learns no features, as the theory says."
        ]
    return [
        f"The NTK limit solves {accuracy:.1f} % of the analogies, above chance ({chance:.2g} %): the theory does not expect that."
    ]


def ntk_loss_sentence(runs: list[Run]) -> list[str]:
    """How far the NTK limit's loss moved from that of zero logits, beside the muP limit's (else the widest net's); nothing without it.

    Negatives equal to the target are skipped, so the first examples cost that share less (about 1/V for even counts).
    """
    losses = {
        m: mean_std(run.number("loss_nats") for run in own).mean
        for m, own in by_model(runs).items()
        if m.is_compared
    }
    losses = {m: loss for m, loss in losses.items() if not math.isnan(loss)}
    ntk, other = next((m for m in losses if m.rank == 0), None), max(losses, default=None)
    # The authors' table gives zero logits another loss.
    if ntk is None or runs[0].config.train.sigmoid is not Sigmoid.exact:
        return []
    start = (1 + runs[0].config.stream.num_negatives) * math.log(2)
    moved = {m: 100 * (loss / start - 1) for m, loss in losses.items()}
    beside = f"; {other.label} {moved[other]:+.1f} %" if other and other != ntk else ""
    verdict = (
        ": at the learning rate that all models share it barely trains"
        if abs(moved[ntk]) < MIN_FALL
        else ""
    )
    way = f"from {start:.2f} nats per example at zero logits, (1 + K) log 2, to {losses[ntk]:.2f} in the last epoch"
    return [f"The NTK limit's loss went {way} ({moved[ntk]:+.1f} %{beside}){verdict}."]


def _width_sentence(models: dict[ModelKey, list[Run]], finite: list[ModelKey]) -> list[str]:
    if len(finite) < 2:
        return ["With fewer than two widths the runs cannot say whether wider is better."]
    means = [_accuracy(models[m]).mean for m in finite]
    gain, noise = means[-1] - means[0], _noise(models[finite[0]], models[finite[-1]])
    rises = all(b > a for a, b in pairwise(means))
    verb = "rises with width at every step" if rises else "does not rise with width at every step"
    numbers = f"{', '.join(f'{v:.1f}' for v in means)} % at widths {', '.join(f'{m.width:,}' for m in finite)}"
    return [
        f"Accuracy {verb}: {numbers} ({gain:+.1f} points from end to end, {_verdict(gain, noise)})."
    ]


def _limit_sentence(models: dict[ModelKey, list[Run]], finite: list[ModelKey]) -> list[str]:
    name, limit = next(((m.label, own) for m, own in models.items() if m.rank == 2), ("", None))
    if limit is None:
        return ["There is no run of the muP limit here to compare with."]
    value = _accuracy(limit).mean
    if not finite:
        return [
            f"The {name} solves {value:.1f} % of the analogies; there is no finite net here to compare with."
        ]
    best = max(finite, key=lambda m: _accuracy(models[m]).mean)
    lead, noise = value - _accuracy(models[best]).mean, _noise(limit, models[best])
    verb, side = ("is best", "above") if lead > 0 else ("is not best", "below")
    return [
        f"The {name} {verb}: {value:.1f} %, {abs(lead):.1f} points {side} the best finite net, {best.label} ({_verdict(lead, noise)})."
    ]


def _distance_sentence(runs: list[Run]) -> list[str]:
    pairs = [
        (m, mean_std(run.limit_distance("gram_error") for run in own).mean)
        for m, own in by_model(runs).items()
        if m.rank == 1 and not m.variant
    ]
    pairs = [(m, error) for m, error in pairs if error > 0]
    if len(pairs) < 2:
        return []
    errors = [error for _, error in pairs]
    verb = (
        "come closer"
        if all(b < a for a, b in pairwise(errors))
        else "do not come closer at every step"
    )
    numbers = f"{', '.join(f'{e:.3f}' for e in errors)} at widths {', '.join(f'{m.width:,}' for m, _ in pairs)}"
    limits = [run for run in runs if run.summary["model"] == "mup_limit"]
    if limits and all(run.summary.get("approximation") for run in limits):
        return [
            f"With width the embeddings {verb} to the low-rank limit's, whose own error is in all of these: cosine-Gram error {numbers}."
        ]
    slope = np.polyfit(np.log([m.width for m, _ in pairs]), np.log(errors), 1)[0]
    tail = f" (log-log slope {slope:.2f}; random fluctuations give -0.5)" if len(pairs) > 2 else ""
    return [f"With width the embeddings {verb} to the limit's: cosine-Gram error {numbers}{tail}."]


def _approximation_sentence(runs: list[Run]) -> list[str]:
    """What a low-rank limit knows of its own error."""
    known = [run.summary["approximation"] for run in runs if run.summary.get("approximation")]
    if not known:
        return []
    widest = max(known, key=lambda report: report["rank"])
    outside = f"{100 * widest['energy_outside']:.1f} % of the output embedding's energy"
    return [
        f"The low-rank limit is exact on {widest['rank']:,} directions and first order in the training outside them, where {outside} lies; "
        "docs/lowrank.md says how far such runs were from the exact limit."
        + _tolerance_clause(known)
    ]


def _tolerance_clause(known: list[dict[str, Any]]) -> str:
    """Whether model.tolerance was kept, where one was asked for."""
    asked = [report for report in known if "tolerance" in report]
    if not asked:
        return ""
    worst = max(asked, key=lambda report: report["residual_energy"])
    verb = "kept" if all(report["tolerance_reached"] for report in asked) else "NOT reached"
    return f" model.tolerance={worst['tolerance']:g} was {verb}: the residual energy is {worst['residual_energy']:.3g} of what the pilot run learnt."
