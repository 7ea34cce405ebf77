"""Finished runs, read back from their folders for figures and reports.

Decisions:
- A run counts if it has a summary.json, which is written last. Others are left out, and logged.
- Runs are compared only inside a `Group`: same text, vocabulary and architecture, and the same
  stream, training and evaluation options. Other runs never share a figure or a mean.
- Inside a group, runs of one `ModelKey` differ by seed only. Of two runs with one seed the newer
  counts, so that n is honest.
- The options come from the schema, so a new one is told apart without a change here: those of the
  model enter `ModelKey`, the others `Group`.
- Plain Python groups the runs. With pandas the code would be no shorter, since keys and runs are
  objects, not columns.
"""

import json
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from w2v_inf import compose
from w2v_inf.config import Config, Finite, ModelConfig, MupLimit
from w2v_inf.errors import UserError
from w2v_inf.files import read_json, read_text
from w2v_inf.runs.folder import (
    CONFIG,
    METRICS,
    NOT_TRAINED,
    SUMMARY,
    Summary,
    default_config,
    run_folder,
    trained_options,
)

log = logging.getLogger(__name__)
ARCHITECTURE_NAMES = {"cbow": "CBOW", "skipgram": "skip-gram"}
KINDS = ("ntk_limit", "finite", "mup_limit")
"""The models that figures and findings know, in the order of tables. Others come after them."""
COMPARED = ("stream.", "train.", "evaluate.")
"""Options that runs of one group share. The corpus is compared by its text and vocabulary."""
NEEDED_IN_METRICS = {
    "progress": {"words_seen", "loss"},
    "evaluation": {"words_seen", "epoch", "analogy"},
}
MIN_PAIRS = 50
"""Fewer word pairs give a rank correlation that is mostly noise: its standard error is about
1 / sqrt(pairs)."""


class ModelKey(NamedTuple):
    """What was trained, except the seed.

    Sorts as tables list it: NTK limit, finite networks by width, muP limit, other models.
    """

    order: int
    """Index into `KINDS`, or their number for another model."""
    variant: str
    """Options off their defaults; empty for plain muP networks and plain limits."""
    width: int
    """Columns of a finite network; 0 for a limit."""
    method: str = ""
    """How the muP limit was computed (engine, dtype, rank, ...); empty for the defaults."""
    other: str = ""
    """The name of a model that is not one of `KINDS`."""

    @property
    def kind(self) -> str:
        return self.other or KINDS[self.order]

    @property
    def is_compared(self) -> bool:
        """Whether the headline compares it: both limits, however computed, and muP networks."""
        return not self.variant and not self.other

    @property
    def label(self) -> str:
        """`width 64 (sp)`, `muP limit (lowrank, rank=8)`, ..."""
        name = ("NTK limit", f"width {self.width:,}", "muP limit", self.other)[self.order]
        details = ", ".join(part for part in (self.variant, self.method) if part)
        return f"{name} ({details})" if details else name


class Group(NamedTuple):
    """What runs must share to be compared."""

    corpus: str
    architecture: str
    vocab_size: int
    checksum: str
    options: tuple[tuple[str, str], ...]
    """Stream, training and evaluation options as (name, value)."""

    @property
    def title(self) -> str:
        """`text8, CBOW, V = 71,291`."""
        name = ARCHITECTURE_NAMES.get(self.architecture, self.architecture)
        return f"{self.corpus}, {name}, V = {self.vocab_size:,}"


class MeanStd(NamedTuple):
    """Mean and standard deviation over n seeds; `sd` is nan for n < 2, `mean` for n = 0."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run, as its folder describes it."""

    folder: Path
    config: Config
    environment: dict[str, Any]
    summary: Summary
    progress: list[dict[str, Any]]
    """Lines of metrics.jsonl in order: loss (nats per example), words_seen, ..."""
    evaluations: list[dict[str, Any]]
    """Lines of metrics.jsonl after each epoch, from epoch 0 on."""

    @property
    def seed(self) -> int:
        return self.summary.seed

    @cached_property
    def model(self) -> ModelKey:
        changed = changed_model_options(self.config)
        # The muP limit's own options decide how it is computed, those of every model which it is.
        common = {field.name for field in fields(ModelConfig)}
        is_limit = isinstance(self.config.model, MupLimit)
        method = {k: v for k, v in changed.items() if is_limit and k not in common}
        variant = {k: v for k, v in changed.items() if k not in method}
        width = self.config.model.width if isinstance(self.config.model, Finite) else 0
        name, texts = self.summary.model, [", ".join(v.values()) for v in (variant, method)]
        if name not in KINDS:
            return ModelKey(len(KINDS), texts[0], width, texts[1], name)
        return ModelKey(KINDS.index(name), texts[0], width, texts[1])

    @cached_property
    def group(self) -> Group:
        s = self.summary
        compared = tuple(
            sorted(
                (name, str(value))
                for name, value in trained_options(self.config).items()
                if name.startswith(COMPARED) and name != "stream.architecture"
            )
        )
        return Group(s.corpus, s.architecture, s.vocab_size, s.corpus_checksum, compared)

    def accuracy(self, part: str = "total", rule: str = "3cosadd") -> float:
        """Final analogy accuracy in percent of the questions seen; nan if none was seen."""
        return _number((self.analogy_counts(rule).get(part) or {}).get("accuracy"))

    def pairs_accuracy(self) -> float:
        """Accuracy in percent on all pairs of pairs (see `evaluation.pairs`); nan if not asked."""
        result = (self.summary.evaluation.get("pairs_of_pairs") or {}).get("3cosadd") or {}
        return _number((result.get("total") or {}).get("accuracy"))

    def analogy_counts(self, rule: str = "3cosadd") -> dict[str, Any]:
        """Counts of the analogy questions: total, semantic, syntactic and sections."""
        return (self.summary.evaluation.get("analogy") or {}).get(rule) or {}

    def similarity(self, name: str) -> float:
        """Spearman correlation with the human scores of `wordsim353` or `simlex999`.

        nan if too few pairs are in the vocabulary.
        """
        result = (self.summary.evaluation.get("similarity") or {}).get(name) or {}
        return _number(result.get("spearman")) if result.get("pairs", 0) >= MIN_PAIRS else math.nan

    def number(self, name: str) -> float:
        """A number of the summary (`wall_s`, `loss_nats`, ...); nan for None."""
        return _number(getattr(self.summary, name))

    def limit_distance(self, name: str) -> float:
        """`gram_error` or `neighbour_overlap` against the infinite-width limit; nan if unknown."""
        return _number((self.summary.limit_distance or {}).get(name))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def changed_model_options(config: Config) -> dict[str, str]:
    """The model's options off their defaults, each as text: `sp`, `lowrank`, `rank=8`.

    Width and options that do not change the result are left out.
    """
    model, default, changed = config.model, default_config(config).model, {}
    for name, value in vars(model).items():
        if name == "width" or f"model.{name}" in NOT_TRAINED:
            continue
        if value != getattr(default, name):
            changed[name] = value.value if isinstance(value, Enum) else f"{name}={value}"
    return changed


def mean_std(values: Iterable[float]) -> MeanStd:
    """Mean and sample deviation of the values that are not nan."""
    known = [v for v in values if not math.isnan(v)]
    return MeanStd(
        fmean(known) if known else math.nan,
        stdev(known) if len(known) > 1 else math.nan,
        len(known),
    )


def load_run(folder: str | Path) -> Run:
    """Read one finished run.

    Raises: UserError if a file is missing or damaged, or the run did not finish.
    """
    folder = Path(folder)
    summary = Summary.load(folder)
    lines = _read_metrics(folder / METRICS)
    progress, evaluations = (
        [line for line in lines if line["event"] == event] for event in ("progress", "evaluation")
    )
    config, environment = compose.read(folder / CONFIG), read_json(folder / "environment.json")
    return Run(folder, config, environment, summary, progress, evaluations)


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        try:
            line = json.loads(text)
            if not NEEDED_IN_METRICS[line["event"]] <= line.keys():
                raise KeyError
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number} is damaged: {text[:60]!r}; "
                "delete the line or train the run again"
            ) from error
        lines.append(line)
    return lines


def find_runs(folders: Iterable[str | Path]) -> list[Run]:
    """All finished runs in `folders`: each is a run itself, or holds runs at any depth.

    Raises: UserError if a folder does not exist or has no finished run, or if a run is damaged.
    """
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(
                f"{folder.absolute()} is not a folder: "
                "plot.runs takes folders that w2v-inf train wrote"
            )
        here = [run for path in _run_folders(folder) if (run := _load_if_done(path))]
        if not here:
            raise UserError(
                f"{folder} holds no finished run (no {SUMMARY}): "
                "run w2v-inf train first or name other folders in plot.runs"
            )
        found |= {run.folder.resolve(): run for run in here}
    return sorted(_newest(found.values()), key=lambda run: str(run.folder))


def _run_folders(folder: Path) -> list[Path]:
    return sorted({path.parent for name in (SUMMARY, METRICS) for path in folder.rglob(name)})


def _load_if_done(folder: Path) -> Run | None:
    if not (folder / SUMMARY).exists():
        log.warning("%s is not finished: left out", folder)
        return None
    return load_run(folder)


def _newest(runs: Iterable[Run]) -> Iterable[Run]:
    """Of runs that differ in nothing but their date, the last."""
    kept: dict[tuple[Group, ModelKey, int], Run] = {}
    for run in sorted(runs, key=lambda run: str(run.environment.get("date", ""))):
        key = (run.group, run.model, run.seed)
        if key in kept:
            log.warning(
                "%s and %s are the same run: only the newer counts", kept[key].folder, run.folder
            )
        kept[key] = run
    return kept.values()


def group_runs(runs: Iterable[Run], over: str = "") -> dict[Group, list[Run]]:
    """Split runs into groups that may be compared, by corpus, architecture and vocabulary.

    over: an option in which runs of one group may differ, such as train.lr; groups are without it.
    """

    def key(run: Run) -> Group:
        kept = tuple((name, value) for name, value in run.group.options if name != over)
        return run.group._replace(options=kept)

    ordered = sorted(runs, key=lambda run: (key(run), run.group))
    return {group: list(own) for group, own in groupby(ordered, key)}


def group_titles(groups: Iterable[Group]) -> dict[Group, str]:
    """A title for each group; equal titles get the options that differ."""
    groups = list(groups)
    titles = {}
    for group in groups:
        same_title = [other for other in groups if other.title == group.title]
        titles[group] = ", ".join([group.title, *_differences(group, same_title)])
    return titles


def _differences(group: Group, same_title: list[Group]) -> list[str]:
    tables = [dict(other.options) for other in same_title]
    options = [f"{k}={v}" for k, v in group.options if any(table.get(k) != v for table in tables)]
    same_text = len({other.checksum for other in same_title}) == 1
    return options if same_text else [*options, f"text {group.checksum[:8]}"]


def by_model(runs: Iterable[Run]) -> dict[ModelKey, list[Run]]:
    """Runs of one group by model in the order of tables, each list by seed."""
    ordered = sorted(runs, key=lambda run: (run.model, run.seed))
    return {model: list(own) for model, own in groupby(ordered, lambda run: run.model)}


def check_one_group(runs: list[Run], user: str) -> None:
    """Raises: UserError, naming the `user` of the runs, for none or for runs of several groups."""
    if not runs:
        raise UserError(f"{user} needs at least one finished run, got none")
    if len({run.group for run in runs}) > 1:
        titles = "; ".join(group_titles(group_runs(runs)).values())
        raise UserError(f"{user} got runs that cannot be compared: {titles}")


def caption_of(runs: list[Run], *sentences: str, accuracy: bool = False) -> str:
    """The sentences, then what every caption must say: corpus, vocabulary, epochs and seeds.

    A figure of accuracies also says how many questions were asked.
    """
    summary, models = runs[0].summary, by_model(runs)
    total = runs[0].analogy_counts().get("total") or {}
    questions = ""
    if accuracy and total.get("questions"):
        questions = f"{total['questions']:,} of {total['total']:,} questions"
    facts = [
        runs[0].group.title,
        _plural(summary.epochs, "epoch"),
        questions,
        _seeds(models),
        "SYNTHETIC corpus" if summary.synthetic else "",
    ]
    return " ".join([*sentences, "; ".join(fact for fact in facts if fact) + "."])


def _seeds(models: dict[ModelKey, list[Run]]) -> str:
    numbers = [len(own) for own in models.values()]
    low, high = min(numbers), max(numbers)
    few = f"{low} to " if low < high else ""
    return f"{few}{_plural(high, 'seed')} per model"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def folders_to_read(config: Config) -> list[Path]:
    """The folders in `plot.runs`; else `run_dir`; else that of this corpus and architecture."""
    if config.plot.runs:
        return [Path(folder) for folder in config.plot.runs]
    if config.run_dir:
        return [Path(config.run_dir)]
    folder = run_folder(config).parent
    if not folder.is_dir():
        raise UserError(
            f"no run in {folder}: run w2v-inf train first or name run folders in plot.runs"
        )
    return [folder]


def shared_folder(folders: Iterable[Path]) -> Path:
    """The deepest folder that holds all `folders`, the default place for their figures."""
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
