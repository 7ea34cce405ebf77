"""The whole comparison in one command: plan, train every model in its own process, compare, draw, report.

Decisions:
- A run is the command a user would type (scripts/train.py with options), so each can be repeated alone; the plan prints them.
- One thread a run and one run a core: small nets do not gain from a second thread, and idle threads spinning beside
  a busy core cost more than they give.
- Runs that are done are left as they are, so that an interrupted reproduction goes on where it stopped.
"""

import dataclasses
import logging
import os
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra import compose
from hydra.core.hydra_config import HydraConfig

from w2v_inf.compose import load
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
from w2v_inf.files import read_json
from w2v_inf.models.device import free_bytes, pick_device
from w2v_inf.models.memory_check import GIB, OVERHEAD_BYTES, model_bytes, rank_of
from w2v_inf.reporting.findings import format_table
from w2v_inf.reporting.plot import plot
from w2v_inf.reporting.report import report
from w2v_inf.runs.folder import SUMMARY, corpus_label, model_label, run_folder
from w2v_inf.runs.results import find_runs, group_runs
from w2v_inf.runs.weights import open_run
from w2v_inf.stream import keep_probability

log = logging.getLogger(__name__)
ENGINE = "model.engine="
OF_A_DOWNLOAD = ("corpus.path=", "corpus.url=")
"""Options that say where text8 comes from, so that nothing else will do."""
CHOSEN_HERE = {
    "model=": "reproduce.widths and reproduce.seeds choose the models",
    "model.width=": "reproduce.widths chooses the widths",
    "seed=": "reproduce.seeds chooses the seeds",
    "run_dir=": "each run gets a folder of its own in runs_dir",
    "experiment=": "reproduce.profile chooses the experiment",
    "num_threads=": "one thread a run, one run a core",
}
MEANS = {
    Engine.dense: (f"{ENGINE}dense", "model.dtype="),
    Engine.lowrank: (
        f"{ENGINE}lowrank",
        "model.rank=",
        "model.tolerance=",
        "model.pair_table_gib=",
    ),
}
"""Options of the muP limit alone that choose its engine."""
COST_US = {Architecture.cbow: (1.0, 0.005), Architecture.skipgram: (3.5, 0.0155)}
"""CPU microseconds a position: a constant and a share of each column, as benchmarks/cost.py measured them, rounded up."""
LOWRANK_COLUMNS = 4
"""Columns of a finite net that cost as much as one direction of the low-rank engine, its rehearsal and its memory included."""
NTK_COLUMNS = 2500
"""Columns of a finite net that costs as much as the NTK limit's scattered table."""


@dataclass
class Job:
    """One training run of the plan."""

    overrides: list[str]
    config: Config
    seconds: float
    """Estimate, one thread of a CPU."""
    bytes: int
    """Estimate of its memory."""

    @property
    def name(self) -> str:
        return (
            f"{corpus_label(self.config)} {model_label(self.config.model)} seed {self.config.seed}"
        )

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "w2v_inf", "train", *self.overrides]


def reproduce(config: Config) -> Path:
    """Train NTK limit, finite widths and muP limit on the chosen corpus; prints the table and the path of the report.

    Raises: UserError for a corpus that cannot be had, a profile that does not fit, or a run that failed.
    """
    typed = typed_options()
    jobs = [
        job
        for corpus in choose_corpora(typed, Path(config.data_dir))
        for job in plan(config, corpus, typed)
    ]
    print_plan(jobs)
    run_jobs(jobs)
    folders = [run_folder(job.config) for job in jobs]
    compare_with_limits(jobs, config)

    out = report_folder(jobs)
    stage = dataclasses.replace(
        config, plot=PlotConfig(runs=[str(folder) for folder in folders], out=str(out / "figures"))
    )
    plot(stage)
    groups = group_runs(find_runs(folders))
    for runs in groups.values():
        print(f"\n{format_table(runs)}")
    print("\nReport:", end=" ")
    stage.plot.out = str(out)
    return report(stage)


def report_folder(jobs: list[Job]) -> Path:
    """RUNS_DIR/report-CORPORA-ARCHITECTURE-EXPERIMENTS: another comparison does not overwrite this one's report."""
    corpora = dict.fromkeys(corpus_label(job.config) for job in jobs)
    experiments = dict.fromkeys(
        o.removeprefix("experiment=")
        for job in jobs
        for o in job.overrides
        if o.startswith("experiment=")
    )
    first = jobs[0].config
    parts = [
        *corpora,
        first.stream.architecture.value,
        *(e for e in experiments if e not in corpora),
    ]
    return Path(first.runs_dir) / "-".join(["report", *parts])


def typed_options() -> list[str]:
    """What the user typed. Raises: UserError for options that the plan chooses."""
    typed = [str(option) for option in HydraConfig.get().overrides.task]
    for option in typed:
        for prefix, reason in CHOSEN_HERE.items():
            if option.lstrip("+").startswith(prefix):
                raise UserError(f"{option} is for scripts/train.py, not for reproduce: {reason}")
    return typed


def choose_corpora(typed: list[str], data_dir: Path) -> list[str]:
    """The corpus that was typed (corpus=NAME); else text8, or the embedded corpora if it cannot be had."""
    named = [option.removeprefix("corpus=") for option in typed if option.startswith("corpus=")]
    if named:
        return named
    if any(option.startswith(OF_A_DOWNLOAD) for option in typed):
        return ["text8"]
    try:
        prepare(Text8(), data_dir)
        return ["text8"]
    except CorpusUnavailable as error:
        log.warning("=" * 100)
        log.warning("text8 CANNOT BE HAD: %s", error)
        log.warning(
            "Going on with the embedded corpora: `planted` (synthetic) and `sample` (a little real text). Their numbers are"
        )
        log.warning(
            "not the paper's. With a network run this again, or give a local copy: CORPUS=text8 ARGS=corpus.path=text8.zip"
        )
        log.warning("=" * 100)
        return ["planted", "sample"]


def plan(config: Config, corpus: str, typed: list[str]) -> list[Job]:
    """The runs on one corpus under the chosen profile. Raises: UserError if they do not fit this machine's memory."""
    asked = [engine for engine in Engine if any(o.startswith(MEANS[engine]) for o in typed)]
    candidates = [
        (name, engine)
        for name in experiments(config.reproduce.profile, corpus)
        for engine in asked or Engine
    ]
    for name, engine in candidates:
        jobs = without_what_needs_no_run(plan_profile(corpus, name, engine, typed), config)
        free_to_choose = config.reproduce.profile is Profile.auto and name != corpus
        too_long = (
            free_to_choose and not on_card(config) and wall_minutes(jobs) > config.reproduce.minutes
        )
        reason = (
            "needs too much memory"
            if not fits_memory(jobs, config)
            else "takes too long"
            if too_long
            else ""
        )
        amount = f"{duration(jobs, config)} and {memory_bytes(jobs) / GIB:.1f} GiB by estimate"
        if not reason:
            log.info(
                "profile %s on %s, the limit by its %s engine: %s",
                name,
                corpus_label(jobs[0].config),
                engine.value,
                amount,
            )
            return jobs
        log.info("profile %s with the %s engine %s: %s", name, engine.value, reason, amount)
    free, names = (
        free_bytes(pick_device(config.device)) / GIB,
        ", ".join(dict.fromkeys(name for name, _ in candidates)),
    )
    raise UserError(
        f"no profile of {names} fits: memory free {free:.1f} GiB, reproduce.minutes={config.reproduce.minutes:g}: "
        "lower corpus.max_vocab, raise reproduce.minutes, or take PROFILE=smoke"
    )


def experiments(profile: Profile, corpus: str) -> list[str]:
    """Names in conf/experiment to try, largest first; a file made for the corpus goes before the general one."""
    names = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    if profile is Profile.auto and corpus in names:
        return [corpus]
    profiles = (
        [Profile.paper, Profile.laptop, Profile.smoke] if profile is Profile.auto else [profile]
    )
    return [f"{p.value}-{corpus}" if f"{p.value}-{corpus}" in names else p.value for p in profiles]


def without_what_needs_no_run(jobs: list[Job], config: Config) -> list[Job]:
    """The jobs, less an NTK limit that would not fit: its embeddings never move, so that it solves nothing by definition."""
    free = free_bytes(pick_device(config.device))
    kept = [
        job for job in jobs if not isinstance(job.config.model, NtkLimit) or job.bytes <= free // 2
    ]
    for job in jobs:
        if job not in kept:
            log.info(
                "model=ntk_limit left out: %.1f GiB for what is 0 by definition (its embeddings never move)",
                job.bytes / GIB,
            )
    return kept


def plan_profile(corpus: str, experiment: str, engine: Engine, typed: list[str]) -> list[Job]:
    """The runs that a profile means on a corpus: NTK limit, every width and seed, muP limit by an engine."""
    kept = [
        o
        for o in typed
        if not o.startswith(
            ("corpus=", "reproduce.", "plot.", *(f"{ENGINE}{e.value}" for e in Engine))
        )
    ]
    limits = [o for o in kept if o.startswith((ENGINE, *sum(MEANS.values(), ())))]
    common = [f"corpus={corpus}", f"experiment={experiment}", *[o for o in kept if o not in limits]]
    composed = load(
        compose("config", overrides=[*common, *[o for o in typed if o.startswith("reproduce.")]])
    )
    chosen = [] if engine is Engine.dense else [f"{ENGINE}{engine.value}", "device=cpu"]
    models = [["model=mup_limit", *chosen, *limits, "seed=0"], ["model=ntk_limit", "seed=0"]]
    for width in composed.reproduce.widths:
        models += [
            ["model=finite", f"model.width={width}", f"seed={seed}"]
            for seed in range(composed.reproduce.seeds)
        ]
    encoded = open_corpus(prepare(composed.corpus, Path(composed.data_dir)))
    counts = select_vocabulary(encoded, composed.corpus).counts
    return [_job([*common, *model, "num_threads=1"], counts) for model in models]


def _job(overrides: list[str], counts: np.ndarray) -> Job:
    config = load(compose("config", overrides=overrides))
    return Job(
        overrides,
        config,
        estimate_seconds(config, counts),
        model_bytes(config.model, len(counts)) + OVERHEAD_BYTES,
    )


def estimate_seconds(config: Config, counts: np.ndarray) -> float:
    """Training time of one thread, from the positions that subsampling keeps and the columns of the model."""
    positions = (
        float((counts * keep_probability(counts, config.stream.subsample_threshold)).sum())
        * config.train.epochs
    )
    if isinstance(config.model, Finite):
        columns = config.model.width
    elif isinstance(config.model, MupLimit) and config.model.engine is Engine.lowrank:
        columns = LOWRANK_COLUMNS * rank_of(config.model, len(counts))
    else:
        columns = NTK_COLUMNS if isinstance(config.model, NtkLimit) else len(counts)
    constant, per_column = COST_US[config.stream.architecture]
    return positions * (constant + per_column * columns) * 1e-6


def num_workers() -> int:
    """Runs at a time."""
    return max(
        1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def wall_minutes(jobs: list[Job]) -> float:
    """Estimated wall time of all jobs, one a core."""
    seconds = [job.seconds for job in jobs]
    return max(max(seconds), sum(seconds) / num_workers()) / 60


def duration(jobs: list[Job], config: Config) -> str:
    """The estimate in words; costs were measured on CPUs alone."""
    return (
        "unknown time on a card" if on_card(config) else f"about {wall_minutes(jobs):,.1f} minutes"
    )


def on_card(config: Config) -> bool:
    """Whether the runs train on a card."""
    return pick_device(config.device).type != "cpu"


def memory_bytes(jobs: list[Job]) -> int:
    """Estimated memory of the largest jobs that can run at once."""
    return sum(sorted((job.bytes for job in jobs), reverse=True)[: num_workers()])


def fits_memory(jobs: list[Job], config: Config) -> bool:
    """Whether the jobs that can run at once fit into what is free."""
    return memory_bytes(jobs) <= free_bytes(pick_device(config.device))


def print_plan(jobs: list[Job]) -> None:
    """Say what will be run, with its memory and time, before anything is allocated."""
    log.info(
        "%d runs, %d at a time, %s in all:",
        len(jobs),
        num_workers(),
        duration(jobs, jobs[0].config),
    )
    for job in jobs:
        done = "  (done)" if (run_folder(job.config) / SUMMARY).exists() else ""
        command = shlex.join(["python", "scripts/train.py", *job.overrides])
        log.info("  %5.1f GiB %6.0f CPU s  %s%s", job.bytes / GIB, job.seconds, command, done)


def run_jobs(jobs: list[Job]) -> None:
    """Train, longest first. Raises: UserError naming the first run that failed; the others still finish."""
    ordered = sorted(jobs, key=lambda job: -job.seconds)
    running: list[subprocess.Popen[str]] = []
    stopping = threading.Event()
    with ThreadPoolExecutor(num_workers()) as pool:
        try:
            failures = [
                failure
                for failure in pool.map(lambda job: _run(job, running, stopping), ordered)
                if failure
            ]
        except BaseException:
            # Before the pool waits for its threads, or they would train to the end.
            stopping.set()
            for process in running:
                process.terminate()
            raise
    if failures:
        raise UserError(f"{len(failures)} of {len(jobs)} runs failed; {failures[0]}")


def _run(job: Job, running: list[subprocess.Popen[str]], stopping: threading.Event) -> str:
    """Train one job, passing its log on line by line; returns its last line if it failed."""
    if stopping.is_set():
        return "stopped"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        job.command, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        running.append(process)
        last = ""
        assert process.stderr is not None
        for line in process.stderr:
            last = line.rstrip()
            with _printing:
                print(f"[{job.name}] {last}", file=sys.stderr, flush=True)
    return f"{job.name}: {last}" if process.returncode else ""


_printing = threading.Lock()


def compare_with_limits(jobs: list[Job], config: Config) -> None:
    """Measure how far each finite run lies from the limit's run on the same stream: same corpus and seed."""
    for corpus in dict.fromkeys(corpus_label(job.config) for job in jobs):
        own = [run_folder(job.config) for job in jobs if corpus_label(job.config) == corpus]
        summaries = {folder: read_json(folder / SUMMARY) for folder in own}
        limit = next(
            folder for folder, summary in summaries.items() if summary["model"] == "mup_limit"
        )
        seed = summaries[limit]["seed"]
        same_stream = [
            folder
            for folder, s in summaries.items()
            if s["model"] == "finite" and s["seed"] == seed
        ]
        left = [folder for folder in same_stream if summaries[folder]["limit_distance"] is None]
        if not left:
            continue
        limit_model, limit_vocab = open_run(limit, config)
        for folder in left:
            add_limit_distance(folder, *open_run(folder, config), limit_model, limit_vocab)
