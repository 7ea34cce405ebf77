"""The whole comparison in one command: plan, train every model, compare, draw, report.

Decisions:
- Every run is a process of its own. Its command is one that a user would type (w2v-inf train
  with options), so each run can be repeated alone. The plan prints the commands.
- Each run has one thread, and as many runs as cores go at once. Small networks do not gain from a
  second thread, and an idle thread that spins beside a busy core costs more than it gives.
- Finished runs stay as they are, so an interrupted reproduction continues where it stopped.
"""

import dataclasses
import logging
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig

from w2v_inf.children import Children
from w2v_inf.compose import load, search_path
from w2v_inf.config import (
    CONF,
    Architecture,
    Config,
    Engine,
    Finite,
    MupLimit,
    NtkLimit,
    PlotConfig,
    Profile,
    Text8,
)
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.errors import UserError
from w2v_inf.evaluation.limit_distance import add_limit_distance
from w2v_inf.explore.page import PAGE, check_bokeh, write_explorer
from w2v_inf.models.cpu.threads import num_cores
from w2v_inf.models.device import free_bytes, pick_device
from w2v_inf.models.memory_check import GIB, OVERHEAD_BYTES, model_bytes, rank_of
from w2v_inf.reporting.findings import format_table
from w2v_inf.reporting.plot import plot
from w2v_inf.reporting.report import report
from w2v_inf.runs.folder import (
    SUMMARY,
    Summary,
    corpus_folder,
    corpus_label,
    model_label,
    run_folder,
)
from w2v_inf.runs.results import find_runs, group_runs
from w2v_inf.runs.weights import open_run
from w2v_inf.stream import keep_probability

log = logging.getLogger(__name__)
DOWNLOAD_OPTIONS = ("corpus.path=", "corpus.url=")
"""Options that say where text8 comes from. With them no other corpus will do."""
PLANNED_OPTIONS = {
    "model=": "reproduce.widths and reproduce.seeds choose the models",
    "model.width=": "reproduce.widths chooses the widths",
    "seed=": "reproduce.seeds chooses the seeds",
    "run_dir=": "each run gets a folder of its own in runs_dir",
    "experiment=": "reproduce.profile chooses the experiment",
    "num_threads=": "one thread per run, one run per core",
}
ENGINE = "model.engine="
ENGINE_OPTIONS = {
    Engine.dense: (f"{ENGINE}dense", "model.dtype="),
    Engine.lowrank: (
        f"{ENGINE}lowrank",
        "model.rank=",
        "model.tolerance=",
        "model.pair_table_gib=",
    ),
}
"""Options of the muP limit alone, by the engine that they choose."""
COST_US = {Architecture.cbow: (1.0, 0.005), Architecture.skipgram: (3.5, 0.0155)}
"""CPU microseconds per position, rounded up from benchmarks/cost.py: a constant, one per column."""
LOWRANK_COLUMNS = 4
"""Finite columns that cost as much as a low-rank direction, with pilot run and pair table."""
NTK_COLUMNS = 2500
"""Columns of the finite network that costs as much as the NTK limit's scattered table."""


@dataclass
class Job:
    """One training run of the plan."""

    overrides: list[str]
    config: Config
    seconds: float
    """Estimated training time on one CPU thread."""
    bytes: int
    """Estimated memory on its device."""
    search_path: list[str] = dataclasses.field(default_factory=list)
    """Hydra's flags that say where its options come from."""

    @property
    def name(self) -> str:
        """Corpus, model and seed, as log lines give them."""
        model = model_label(self.config.model)
        return f"{corpus_label(self.config)} {model} seed {self.config.seed}"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "w2v_inf", "train", *self.search_path, *self.overrides]

    @property
    def folder(self) -> Path:
        return run_folder(self.config)

    @property
    def device(self) -> torch.device:
        return pick_device(self.config.device)


def reproduce(config: Config) -> Path:
    """Train the NTK limit, finite widths and the muP limit on the chosen corpus.

    Prints the table and the path of the report.

    Raises: UserError for an unavailable corpus, a profile that does not fit, or a failed run.
    """
    typed = typed_options()
    corpora = choose_corpora(typed, Path(config.data_dir))
    jobs = [job for corpus in corpora for job in plan(config, corpus, typed)]
    for job in jobs:
        job.search_path = search_path()
    print_plan(jobs)
    run_jobs(jobs)
    compare_with_limits(jobs, config)

    out, folders = report_folder(jobs), [job.folder for job in jobs]
    figures = PlotConfig(runs=[str(folder) for folder in folders], out=str(out / "figures"))
    stage = dataclasses.replace(config, plot=figures)
    plot(stage)
    for runs in group_runs(find_runs(folders)).values():
        print(f"\n{format_table(runs)}")
    explore_each(jobs, config, out)
    print("\nReport:", end=" ")
    stage.plot.out = str(out)
    return report(stage)


def explore_each(jobs: list[Job], config: Config, out: Path) -> None:
    """Write explore.html beside the report, for further corpora explore-CORPUS.html.

    Without Bokeh, which is optional, one line says so.
    """
    try:
        check_bokeh()
    except UserError as error:
        log.warning("no %s: %s", PAGE, error)
        return
    for number, corpus in enumerate(dict.fromkeys(corpus_folder(job.config) for job in jobs)):
        folders = [job.folder for job in jobs if corpus_folder(job.config) == corpus]
        name = PAGE if number == 0 else f"explore-{corpus}.html"
        print("\nExplore:", write_explorer(find_runs(folders), out / name, config))


def report_folder(jobs: list[Job]) -> Path:
    """RUNS_DIR/report-CORPORA-ARCHITECTURE-EXPERIMENTS: one folder per comparison."""
    corpora = dict.fromkeys(corpus_folder(job.config) for job in jobs)
    options = dict.fromkeys(option for job in jobs for option in job.overrides)
    names = [o.removeprefix("experiment=") for o in options if o.startswith("experiment=")]
    first = jobs[0].config
    others = [name for name in names if name not in corpora]
    parts = ["report", *corpora, first.stream.architecture.value, *others]
    return Path(first.runs_dir) / "-".join(parts)


def typed_options() -> list[str]:
    """The options that the user typed. Raises: UserError for options that the plan chooses."""
    typed = [str(option) for option in HydraConfig.get().overrides.task]
    for option in typed:
        for prefix, reason in PLANNED_OPTIONS.items():
            if option.lstrip("+").startswith(prefix):
                raise UserError(f"{option} is for w2v-inf train, not for reproduce: {reason}")
    return typed


def choose_corpora(typed: list[str], data_dir: Path) -> list[str]:
    """The typed corpus (corpus=NAME), or text8, or the embedded corpora if text8 is unavailable."""
    named = [option.removeprefix("corpus=") for option in typed if option.startswith("corpus=")]
    if named:
        return named
    if any(option.startswith(DOWNLOAD_OPTIONS) for option in typed):
        return ["text8"]
    try:
        prepare(Text8(), data_dir)
        return ["text8"]
    except CorpusUnavailable as error:
        message = (
            f"text8 CANNOT BE HAD: {error}\n"
            "Continuing with the embedded corpora: `planted` (synthetic) and `sample` (a little "
            "real text).\nTheir numbers are not the paper's. With a network run this again, or "
            "give a local copy:\nCORPUS=text8 ARGS=corpus.path=text8.zip"
        )
        rule = "=" * 100
        log.warning("%s\n%s\n%s", rule, message, rule)
        return ["planted", "sample"]


def plan(config: Config, corpus: str, typed: list[str]) -> list[Job]:
    """The runs on one corpus under the chosen profile.

    Raises: UserError if they do not fit this machine's memory.
    """
    chosen = [e for e in Engine if any(o.startswith(ENGINE_OPTIONS[e]) for o in typed)]
    names = experiments(config.reproduce.profile, corpus)
    jobs: list[Job] = []
    for name, engine in ((name, engine) for name in names for engine in chosen or Engine):
        jobs = drop_large_ntk_limit(plan_profile(corpus, name, engine, typed))
        amount = f"{duration(jobs)} and {memory_bytes(jobs) / GIB:.1f} GiB by estimate"
        can_choose = config.reproduce.profile is Profile.auto and name != corpus
        if not fits_memory(jobs):
            reason = "needs too much memory"
        elif can_choose and not on_gpu(jobs) and wall_minutes(jobs) > config.reproduce.minutes:
            reason = "takes too long"
        else:
            what = f"profile {name} on {corpus_label(jobs[0].config)}"
            log.info("%s, the limit by its %s engine: %s", what, engine.value, amount)
            return jobs
        log.info("profile %s with the %s engine %s: %s", name, engine.value, reason, amount)
    free = ", ".join(
        f"{free_bytes(device) / GIB:.1f} GiB ({device})"
        for device in dict.fromkeys(job.device for job in jobs)
    )
    raise UserError(
        f"no profile of {', '.join(names)} fits: memory free {free}, "
        f"reproduce.minutes={config.reproduce.minutes:g}: "
        "lower corpus.max_vocab, raise reproduce.minutes, or take PROFILE=smoke"
    )


def experiments(profile: Profile, corpus: str) -> list[str]:
    """Names in conf/experiment to try, the largest first.

    A file made for the corpus comes before the general one.
    """
    names = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    if profile is Profile.auto and corpus in names:
        return [corpus]
    by_size = [Profile.paper, Profile.laptop, Profile.smoke]
    profiles = by_size if profile is Profile.auto else [profile]
    return [f"{p.value}-{corpus}" if f"{p.value}-{corpus}" in names else p.value for p in profiles]


def drop_large_ntk_limit(jobs: list[Job]) -> list[Job]:
    """The jobs without an NTK limit that needs more than half of the free memory.

    Its embeddings never move, so its accuracy is 0 by definition.
    """
    kept = []
    for job in jobs:
        if isinstance(job.config.model, NtkLimit) and job.bytes > free_bytes(job.device) // 2:
            needs = f"it needs {job.bytes / GIB:.1f} GiB"
            log.info("model=ntk_limit left out: %s, and its accuracy is 0 by definition", needs)
        else:
            kept.append(job)
    return kept


def plan_profile(corpus: str, experiment: str, engine: Engine, typed: list[str]) -> list[Job]:
    """The runs of a profile on a corpus: muP limit by `engine`, NTK limit, every width and seed."""
    not_for_runs = ("corpus=", "reproduce.", "plot.", *(f"{ENGINE}{e.value}" for e in Engine))
    options = [o for o in typed if not o.startswith(not_for_runs)]
    of_limit = [o for o in options if o.startswith((ENGINE, *sum(ENGINE_OPTIONS.values(), ())))]
    of_all = [o for o in options if o not in of_limit]
    common = [f"corpus={corpus}", f"experiment={experiment}", *of_all]
    planning = [o for o in typed if o.startswith("reproduce.")]
    config = load(compose("config", overrides=[*common, *planning]))
    lowrank = [] if engine is Engine.dense else [f"{ENGINE}{engine.value}", "device=cpu"]
    models = [["model=mup_limit", *lowrank, *of_limit, "seed=0"], ["model=ntk_limit", "seed=0"]]
    models += [
        ["model=finite", f"model.width={width}", f"seed={seed}"]
        for width in config.reproduce.widths
        for seed in range(config.reproduce.seeds)
    ]
    encoded = open_corpus(prepare(config.corpus, Path(config.data_dir)))
    counts = select_vocabulary(encoded, config.corpus).counts
    return [_job([*common, *model, "num_threads=1"], counts) for model in models]


def _job(overrides: list[str], counts: np.ndarray) -> Job:
    config = load(compose("config", overrides=overrides))
    num_bytes = model_bytes(config.model, len(counts)) + OVERHEAD_BYTES
    return Job(overrides, config, estimate_seconds(config, counts), num_bytes)


def estimate_seconds(config: Config, counts: np.ndarray) -> float:
    """Training time on one thread, by the positions after subsampling and the model's columns."""
    kept = counts * keep_probability(counts, config.stream.subsample_threshold)
    positions = float(kept.sum()) * config.train.epochs
    if isinstance(config.model, Finite):
        columns = config.model.width
    elif isinstance(config.model, MupLimit) and config.model.engine is Engine.lowrank:
        columns = LOWRANK_COLUMNS * rank_of(config.model, len(counts))
    else:
        columns = NTK_COLUMNS if isinstance(config.model, NtkLimit) else len(counts)
    constant, per_column = COST_US[config.stream.architecture]
    return positions * (constant + per_column * columns) * 1e-6


def wall_minutes(jobs: list[Job]) -> float:
    """Estimated wall time of all jobs, one per core."""
    seconds = [job.seconds for job in jobs]
    return max(max(seconds), sum(seconds) / num_cores()) / 60


def duration(jobs: list[Job]) -> str:
    """The estimated time in words; costs were measured on CPUs only."""
    return "unknown time on a GPU" if on_gpu(jobs) else f"about {wall_minutes(jobs):,.1f} minutes"


def on_gpu(jobs: list[Job]) -> bool:
    """Whether some of the jobs train on a GPU."""
    return any(job.device.type != "cpu" for job in jobs)


def memory_bytes(jobs: list[Job]) -> int:
    """Estimated memory of the largest jobs that can run at once."""
    return sum(sorted((job.bytes for job in jobs), reverse=True)[: num_cores()])


def fits_memory(jobs: list[Job]) -> bool:
    """Whether the jobs that can run at once fit the free memory of their devices."""
    devices = {job.device for job in jobs}
    return all(memory_bytes([j for j in jobs if j.device == d]) <= free_bytes(d) for d in devices)


def print_plan(jobs: list[Job]) -> None:
    """Log each run with its memory and time, before anything is allocated."""
    log.info("%d runs, %d at a time, %s in all:", len(jobs), num_cores(), duration(jobs))
    for job in jobs:
        done = "  (done)" if (job.folder / SUMMARY).exists() else ""
        command = shlex.join(["w2v-inf", "train", *job.search_path, *job.overrides])
        log.info("  %5.1f GiB %6.0f CPU s  %s%s", job.bytes / GIB, job.seconds, command, done)


def run_jobs(jobs: list[Job]) -> None:
    """Train, longest first.

    Raises: UserError that names the first failed run; the others still finish.
    """
    ordered = sorted(jobs, key=lambda job: -job.seconds)
    children = Children()
    with ThreadPoolExecutor(num_cores()) as pool:
        try:
            failures = [*filter(None, pool.map(lambda job: _run(job, children), ordered))]
        except BaseException:
            # Before the pool waits for its threads, or they would train to the end.
            children.terminate()
            raise
    if failures:
        raise UserError(f"{len(failures)} of {len(jobs)} runs failed; {failures[0]}")


def _run(job: Job, children: Children) -> str:
    """Train one job and print its log line by line; returns its last line if it failed."""
    process = children.start(job.command)
    if process is None:
        return "stopped"
    last = ""
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.rstrip()
            with children.lock:
                print(f"[{job.name}] {last}", file=sys.stderr, flush=True)
    return f"{job.name}: {last}" if process.returncode else ""


def compare_with_limits(jobs: list[Job], config: Config) -> None:
    """Measure the distance of each finite run to the muP limit of the same corpus and seed.

    The same corpus and seed give the same stream.
    """
    for corpus in dict.fromkeys(corpus_label(job.config) for job in jobs):
        folders = [job.folder for job in jobs if corpus_label(job.config) == corpus]
        summaries = {folder: Summary.load(folder) for folder in folders}
        limit = next(folder for folder in folders if summaries[folder].model == "mup_limit")
        wanted = ("finite", summaries[limit].seed, None)
        missing = [
            folder
            for folder, summary in summaries.items()
            if (summary.model, summary.seed, summary.limit_distance) == wanted
        ]
        if missing:
            opened_limit = open_run(limit, config)
            for folder in missing:
                add_limit_distance(folder, *open_run(folder, config), *opened_limit)
