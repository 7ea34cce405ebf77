"""Stage 5: one self-contained report.html from finished runs.

It holds the question and its answer, figures and tables, the method, and the commands that repeat
the runs.

Decisions:
- Every number and sentence about results is computed from the runs (`reporting.findings`).
- The text that every report shares stands in templates/report.html.j2.
"""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.overrides import quote
from w2v_inf.reporting import findings
from w2v_inf.reporting.html import write_page
from w2v_inf.reporting.plot import draw
from w2v_inf.reporting.style import Drawing
from w2v_inf.runs.results import (
    Run,
    by_model,
    find_runs,
    folders_to_read,
    group_runs,
    group_titles,
    shared_folder,
)
from w2v_inf.tables import Table

FIGURES, MORE_FIGURES = ("pca", "accuracy", "loss", "width"), ("sections",)
"""In the order of the page; the others are folded."""
EXPLORE = "explore.html"
"""The interactive page, linked if it lies beside the report."""
MAX_NEIGHBOURS = 5
LOCAL_OPTIONS = ("run_dir", "runs_dir", "data_dir", "evaluate", "baseline", "plot", "reproduce")
"""Paths on the machine of the run, and options of other stages: no part of what was trained."""
ALWAYS_SAID = ("model.width", "train.epochs")
"""Options that a command names even at their defaults, because readers look for them."""
CORPORA_INFO = {
    "text8": "The first 100 MB of cleaned English Wikipedia text of 2006, by Matt Mahoney "
    "(mattmahoney.net/dc/textdata).",
    "fil9": "English Wikipedia of 2006 (enwik9), cleaned by the rules of wikifil.pl "
    "(mattmahoney.net/dc/textdata).",
    "wikipedia": "Articles of Wikipedia from the data set wikimedia/wikipedia.",
    "sample": "The English Wikipedia extract that gensim ships: real text, "
    "about 510 thousand words.",
    "planted": "SYNTHETIC text, generated from a known table of relations. "
    "It shows the mechanism, not English.",
    "file": "A text file of the user's own.",
}


def report(config: Config) -> Path:
    """Stage 5: write report.html from the runs in `plot.runs` into `plot.out`; prints its path.

    The default of `plot.out` is the folder that holds the runs.
    """
    folders = folders_to_read(config)
    out = Path(config.plot.out) if config.plot.out else shared_folder(folders)
    path = write_report(find_runs(folders), out / "report.html")
    print(path)
    return path


def write_report(
    runs: list[Run], out_html: str | Path, corpora_info: Mapping[str, str] = CORPORA_INFO
) -> Path:
    """Write the report of `runs`, a section per comparable group, and return its path.

    Args:
      corpora_info: the source of each corpus's text, by the name of the corpus.
    Raises: UserError without runs, or if the file cannot be written.
    """
    if not runs:
        raise UserError("plot.runs holds no finished run: a report needs at least one")
    groups = group_runs(runs)
    paper = [(model, f"{accuracy:.2f}") for model, accuracy in findings.PAPER_TEXT8.items()]
    return write_page(
        Path(out_html),
        "report",
        title="Infinite-width limits of word2vec",
        groups=[
            _section(title, groups[group], corpora_info)
            for group, title in group_titles(groups).items()
        ],
        paper=[("model", "analogies (%)"), *paper],
        max_neighbours=MAX_NEIGHBOURS,
        explore=EXPLORE if Path(out_html).with_name(EXPLORE).is_file() else None,
    )


def _section(title: str, runs: list[Run], corpora_info: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows of one group."""
    protocols = [run.summary.evaluation.get("protocol") or {} for run in runs]
    return {
        "title": title,
        "synthetic": runs[0].summary.synthetic,
        "headline": findings.headline(runs),
        "source": _source(runs[0], corpora_info),
        "results": findings.result_table(runs, findings.QUALITY),
        "protocol_sentence": findings.protocol_sentence(runs),
        "has_paper": findings.comparable_with_paper(runs),
        "cost": findings.result_table(runs, findings.COST),
        "ntk_loss": findings.ntk_loss_sentence(runs),
        "drawings": _drawings(runs, FIGURES),
        "more_drawings": _drawings(runs, MORE_FIGURES),
        "approximation": findings.approximation_sentence(runs),
        "distances": findings.distance_table(runs),
        "distance": findings.distance_sentence(runs),
        "neighbours": neighbour_table(runs),
        "commands": repeat_commands(runs),
        "protocol": _facts(protocols),
        "environment": _facts(run.environment for run in runs),
        "options": {model.label: _options(seeds[0]) for model, seeds in by_model(runs).items()},
    }


def _source(run: Run, corpora_info: Mapping[str, str]) -> str:
    """Where the text comes from, and its licence; a user's own file is of the kind `file`."""
    known, licence = corpora_info.get(run.config.corpus.name, ""), run.summary.licence
    parts = [known, f"Licence of the text: {licence}." if licence else ""]
    return " ".join(filter(None, parts))


def _drawings(runs: list[Run], names: Iterable[str]) -> list[Drawing]:
    try:
        return draw(runs, names)
    except UserError:
        return []  # draw has logged the reason


def neighbour_table(runs: list[Run]) -> Table:
    """A row per word: its nearest neighbours in each model (lowest seed); empty if none saved."""
    neighbours = {
        model.label: seeds[0].summary.evaluation.get("neighbours") or {}
        for model, seeds in by_model(runs).items()
    }
    words = dict.fromkeys(word for table in neighbours.values() for word in table)
    rows = [
        [word, *(_format_neighbours(table.get(word, [])) for table in neighbours.values())]
        for word in words
    ]
    return [["word", *neighbours], *rows] if rows else []


def _format_neighbours(pairs: list[list[Any]]) -> str:
    """Words with their cosines. If all tie, as in the NTK limit, their order means nothing."""
    if len(pairs) > 1 and len({cosine for _, cosine in pairs}) == 1:
        return f"all tie at {pairs[0][1]:.2f}"
    return ", ".join(f"{word} {cosine:.2f}" for word, cosine in pairs[:MAX_NEIGHBOURS]) or "–"


def _facts(tables: Iterable[Mapping[str, Any]]) -> Table:
    """A row per key, with all values that the runs have for it."""
    values: dict[str, dict[str, None]] = {}
    for table in tables:
        for key, value in table.items():
            values.setdefault(key, {})[str(value)] = None
    return [["item", "value"], *([key, "; ".join(known)] for key, known in values.items())]


def _options(run: Run) -> str:
    options = OmegaConf.structured(run.config)
    kept = [key for key in options if key not in LOCAL_OPTIONS]
    return OmegaConf.to_yaml(OmegaConf.masked_copy(options, kept))


def repeat_commands(runs: list[Run]) -> list[str]:
    """The shell commands that train these runs again.

    They name the options that differ from their defaults.
    """
    corpora = dict.fromkeys(" ".join(_corpus_options(run)) for run in runs)
    commands = [f"w2v-inf prepare {corpus}" for corpus in corpora]
    for run in (run for seeds in by_model(runs).values() for run in seeds):
        options = [*_corpus_options(run), *_training_options(run)]
        commands.append(" ".join(["w2v-inf train", *options]))
    return commands


def _corpus_options(run: Run) -> list[str]:
    return _chosen("corpus", run.config.corpus)


def _training_options(run: Run) -> list[str]:
    config = run.config
    return [
        *_chosen("model", config.model),
        *_changed("stream.", config.stream),
        *_changed("train.", config.train),
        *_changed("evaluate.", config.evaluate, ("embedding",)),
        *_changed("", config, ("device", "num_threads")),
        f"seed={run.seed}",
    ]


def _chosen(group: str, member: Any) -> list[str]:
    """`group=name` and the options of that member that differ from its defaults."""
    return [f"{group}={member.name}", *_changed(f"{group}.", member)]


def _changed(prefix: str, options: Any, names: Iterable[str] = ()) -> list[str]:
    """The options of a dataclass, or those in `names`, that differ from their defaults."""
    overrides = []
    # By field: a member need not be valid with all its defaults (corpus=file has no default path).
    for field in dataclasses.fields(options):
        if names and field.name not in names:
            continue
        factory = field.default_factory
        default = factory() if callable(factory) else field.default
        value, key = getattr(options, field.name), prefix + field.name
        if value != default or key in ALWAYS_SAID:
            overrides.append(shlex.quote(f"{key}={quote(value)}"))
    return overrides
