"""Reading finished runs back from their folders, for figures and reports.

Decisions:
- A run counts when it has a `summary.json`, which is written last; others are left out, with a line in the log.
- Runs are compared only inside a `Group`: same text, vocabulary, architecture, stream, step size and evaluation. Runs
  that differ in any of these never meet in one figure or one mean.
- Inside a group, runs of one `ModelKey` differ by seed only; of two runs with one seed the newer counts, so that n is honest.
"""

import json
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from w2v_inf import compose
from w2v_inf.config import Config, Engine, Finite, MupLimit, Parametrization
from w2v_inf.errors import UserError
from w2v_inf.files import read_json, read_text
from w2v_inf.runs.folder import CONFIG, METRICS, SUMMARY, run_folder

log = logging.getLogger(__name__)
ARCHITECTURE_NAMES = {"cbow": "CBOW", "skipgram": "skip-gram"}
NEEDED_IN_SUMMARY = (
    "model",
    "architecture",
    "corpus",
    "vocab_size",
    "tokens",
    "epochs",
    "seed",
    "corpus_checksum",
    "evaluation",
)
NEEDED_IN_METRICS = {
    "progress": {"words_seen", "loss"},
    "evaluation": {"words_seen", "epoch", "analogy"},
}
MIN_PAIRS = 50
"""Word pairs below which a rank correlation is mostly noise (its standard error is about 1 / sqrt(pairs))."""
COMPARED_TRAIN_OPTIONS = ("epochs", "lr", "weight_decay", "context_gradient", "sigmoid")


class ModelKey(NamedTuple):
    """What was trained, but for the seed. Sorts as tables list it: NTK limit, finite nets by width, muP limit."""

    rank: int
    variant: str
    """Empty for muP nets from a zero output layer and for the dense limit; otherwise what differs."""
    width: int
    """Columns of a finite net; 0 for a limit."""

    @property
    def kind(self) -> str:
        return ("ntk_limit", "finite", "mup_limit")[self.rank]

    @property
    def is_compared(self) -> bool:
        """Whether it is one of those that are compared: both limits, by whichever engine, and plain muP nets."""
        return not self.variant or (
            self.kind == "mup_limit" and self.variant == Engine.lowrank.value
        )

    @property
    def label(self) -> str:
        name = ("NTK limit", f"width {self.width:,}", "muP limit")[self.rank]
        return f"{name} ({self.variant})" if self.variant else name


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
        name = ARCHITECTURE_NAMES.get(self.architecture, self.architecture)
        return f"{self.corpus}, {name}, V = {self.vocab_size:,}"


class MeanStd(NamedTuple):
    """Mean and standard deviation over n seeds; sd is nan for n < 2, the mean for n = 0."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run as its folder tells it."""

    folder: Path
    config: Config
    environment: dict[str, Any]
    summary: dict[str, Any]
    progress: list[dict[str, Any]]
    """Lines of metrics.jsonl in order: loss (nats an example), words_seen, ..."""
    evaluations: list[dict[str, Any]]
    """Lines of metrics.jsonl after each epoch, from epoch 0 on."""

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @cached_property
    def model(self) -> ModelKey:
        rank = {"ntk_limit": 0, "finite": 1, "mup_limit": 2}[self.summary["model"]]
        return ModelKey(
            rank, _variant(self), int(self.summary.get("width") or 0) if rank == 1 else 0
        )

    @cached_property
    def group(self) -> Group:
        s, train = self.summary, self.config.train
        values = {
            f"stream.{k}": v for k, v in asdict(self.config.stream).items() if k != "architecture"
        }
        values |= {f"train.{k}": getattr(train, k) for k in COMPARED_TRAIN_OPTIONS}
        values["evaluate.embedding"] = self.config.evaluate.embedding
        pairs = tuple(
            sorted((k, str(v.value if isinstance(v, Enum) else v)) for k, v in values.items())
        )
        return Group(
            s["corpus"], s["architecture"], int(s["vocab_size"]), str(s["corpus_checksum"]), pairs
        )

    def accuracy(self, part: str = "total", rule: str = "3cosadd") -> float:
        """Final analogy accuracy in percent of the questions seen; nan if none was seen."""
        return _number((self.tally(rule).get(part) or {}).get("accuracy"))

    def tally(self, rule: str = "3cosadd") -> dict[str, Any]:
        """Counts of the analogy questions: total, semantic, syntactic and sections."""
        return (self.summary["evaluation"].get("analogy") or {}).get(rule) or {}

    def similarity(self, name: str) -> float:
        """Spearman correlation with the human scores of `wordsim353` or `simlex999`; nan if too few pairs are in vocabulary."""
        result = (self.summary["evaluation"].get("similarity") or {}).get(name) or {}
        return _number(result.get("spearman")) if result.get("pairs", 0) >= MIN_PAIRS else math.nan

    def number(self, key: str) -> float:
        """A number of the summary (`wall_s`, `loss_nats`, ...); nan if absent."""
        return _number(self.summary.get(key))

    def limit_distance(self, key: str) -> float:
        """`gram_error` or `neighbour_overlap` against the limit's run; nan if not measured."""
        return _number((self.summary.get("limit_distance") or {}).get(key))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _variant(run: Run) -> str:
    model, parts = run.config.model, []
    if isinstance(model, Finite) and model.parametrization is not Parametrization.mup:
        custom = model.parametrization is Parametrization.custom
        parts.append(f"custom {model.exponents}" if custom else model.parametrization.value)
    if isinstance(model, MupLimit) and model.engine is not Engine.dense:
        parts.append(model.engine.value)
    if model.output_init_scale:
        parts.append(f"output start {model.output_init_scale:g}")
    return ", ".join(parts)


def mean_std(values: Iterable[float]) -> MeanStd:
    """Mean and sample deviation of the values that are numbers."""
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
    summary = read_json(folder / SUMMARY)
    missing = [key for key in NEEDED_IN_SUMMARY if key not in summary]
    if not missing and not isinstance(summary["evaluation"], dict):
        missing = ["evaluation"]
    if missing or summary["model"] not in ("ntk_limit", "finite", "mup_limit"):
        what = (
            f"lacks {', '.join(missing)}"
            if missing
            else f"names an unknown model {summary['model']!r}"
        )
        raise UserError(f"{folder / SUMMARY} {what}: train the run again")
    lines = _read_metrics(folder / METRICS)
    progress, evaluations = (
        [line for line in lines if line["event"] == event] for event in ("progress", "evaluation")
    )
    return Run(
        folder,
        compose.read(folder / CONFIG),
        read_json(folder / "environment.json"),
        summary,
        progress,
        evaluations,
    )


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        try:
            line = json.loads(text)
            if not NEEDED_IN_METRICS[line["event"]] <= line.keys():
                raise KeyError
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number} is damaged: {text[:60]!r}; delete the line or train the run again"
            ) from error
        lines.append(line)
    return lines


def find_runs(folders: Iterable[str | Path]) -> list[Run]:
    """All finished runs in `folders`, each a run itself or a folder with runs somewhere below.

    Raises: UserError if a folder does not exist or has no finished run, or if a run is damaged.
    """
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder: plot.runs takes folders that scripts/train.py wrote"
            )
        here = [run for path in _run_folders(folder) if (run := _load_if_done(path))]
        if not here:
            raise UserError(
                f"{folder} holds no finished run (no {SUMMARY}): run scripts/train.py first or name other folders in plot.runs"
            )
        found |= {run.folder.resolve(): run for run in here}
    return _newest(sorted(found.values(), key=lambda run: str(run.folder)))


def _run_folders(folder: Path) -> list[Path]:
    return sorted({path.parent for name in (SUMMARY, METRICS) for path in folder.rglob(name)})


def _load_if_done(folder: Path) -> Run | None:
    if not (folder / SUMMARY).exists():
        log.warning("%s is not finished: left out", folder)
        return None
    return load_run(folder)


def _newest(runs: list[Run]) -> list[Run]:
    kept: dict[tuple[Group, ModelKey, int], Run] = {}
    for run in sorted(runs, key=lambda run: str(run.environment.get("date", ""))):
        key = (run.group, run.model, run.seed)
        if key in kept:
            log.warning(
                "%s and %s are the same run: only the newer counts", kept[key].folder, run.folder
            )
        kept[key] = run
    chosen = {id(run) for run in kept.values()}
    return [run for run in runs if id(run) in chosen]


def group_runs(runs: Iterable[Run], over: str = "") -> dict[Group, list[Run]]:
    """Split runs into groups that may be compared; groups by corpus, architecture and vocabulary.

    over: an option that runs of one group may differ in, such as train.lr; the groups are without it.
    """
    groups: dict[Group, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.group):
        group = run.group._replace(options=tuple((k, v) for k, v in run.group.options if k != over))
        groups.setdefault(group, []).append(run)
    return groups


def group_titles(groups: Iterable[Group]) -> dict[Group, str]:
    """A title for each group; where two would read alike, with the options that tell them apart."""
    groups = list(groups)
    titles = {}
    for group in groups:
        twins = [other for other in groups if other.title == group.title]
        titles[group] = ", ".join([group.title, *_differences(group, twins)])
    return titles


def _differences(group: Group, twins: list[Group]) -> list[str]:
    tables = [dict(twin.options) for twin in twins]
    options = [f"{k}={v}" for k, v in group.options if any(table.get(k) != v for table in tables)]
    same_text = len({twin.checksum for twin in twins}) == 1
    return options if same_text else [*options, f"text {group.checksum[:8]}"]


def by_model(runs: Iterable[Run]) -> dict[ModelKey, list[Run]]:
    """Runs of one group by model in table order, each list by seed."""
    models: dict[ModelKey, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.model, run.seed)):
        models.setdefault(run.model, []).append(run)
    return models


def check_one_group(runs: list[Run], what: str) -> None:
    """Refuse to draw nothing, or runs that may not be compared."""
    if not runs:
        raise UserError(f"{what} needs at least one finished run, got none")
    if len({run.group for run in runs}) > 1:
        raise UserError(
            f"{what} got runs that cannot be compared: {'; '.join(group_titles(group_runs(runs)).values())}"
        )


def caption_of(runs: list[Run], *sentences: str) -> str:
    """The sentences, then corpus, vocabulary, questions and seeds, as every caption must say."""
    group, models = runs[0].group, by_model(runs)
    total, epochs = runs[0].tally().get("total") or {}, runs[0].summary["epochs"]
    seen = (
        f"3CosAdd over the whole vocabulary, {total['questions']:,} of {total['total']:,} questions"
        if total.get("questions")
        else ""
    )
    counts = sorted({len(own) for own in models.values()})
    seeds = (
        f"{counts[0]} {'seed' if counts[0] == 1 else 'seeds'} a model"
        if len(counts) == 1
        else "seeds: " + ", ".join(f"{m.label}: {len(own)}" for m, own in models.items())
    )
    synthetic = "SYNTHETIC corpus" if runs[0].summary.get("synthetic") else ""
    facts = [
        group.title,
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'}",
        seen,
        seeds,
        synthetic,
    ]
    return " ".join([*sentences, "; ".join(fact for fact in facts if fact) + "."])


def folders_to_read(config: Config) -> list[Path]:
    """Folders that `plot.runs` names; else `run_dir`; else where runs of this corpus and architecture are kept."""
    if config.plot.runs:
        return [Path(folder) for folder in config.plot.runs]
    if config.run_dir:
        return [Path(config.run_dir)]
    folder = run_folder(config).parent
    if not folder.is_dir():
        raise UserError(
            f"no run in {folder}: run scripts/train.py first or name the folders of runs in plot.runs"
        )
    return [folder]


def shared_folder(folders: Iterable[Path]) -> Path:
    """The deepest folder that holds all `folders`, where results drawn from them go by default."""
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
