"""The main job at toy size: plan, fallback, continuation, and what it refuses."""

import dataclasses
import hashlib
import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from fake_runs import make_family
from hydra import initialize_config_dir

from w2v_inf import cli, reproduce
from w2v_inf.children import Children
from w2v_inf.config import CONF, PROJECT_ROOT, Architecture, Device, Engine, Profile
from w2v_inf.corpus import sources
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.errors import UserError

pytestmark = pytest.mark.slow  # trains whole runs or starts processes
SCRIPT = str(PROJECT_ROOT / "scripts" / "reproduce.py")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = np.array(
        "paris france berlin germany madrid spain king queen man woman a b c d".split()
    )
    rng = np.random.default_rng(0)
    path = tmp_path / "toy.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 50)) for _ in range(60)))
    return path


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> int:
    """Run the script's job in this process, which has imported everything; the exit code."""
    where = [f"data_dir={folder}/data", f"runs_dir={folder}/runs"]
    monkeypatch.setattr(sys, "argv", [SCRIPT, *where, *options])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the script sets it; restored after the test
    handler = signal.getsignal(signal.SIGTERM)
    try:
        cli.run(reproduce.reproduce)
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return 0


def test_the_whole_job_on_a_local_zip_of_text8_and_its_continuation(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    archive, content = tmp_path / "text8.zip", " ".join(text.read_text().split()).encode()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("text8", content)
    # Only this process reads the zip and checks its text; the runs find it encoded.
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(sources, "TEXT8", dataclasses.replace(sources.TEXT8, md5=md5))
    options = [
        "corpus=text8",
        f"corpus.path={archive}",
        "reproduce.profile=smoke",
        "reproduce.widths=[4,8]",
    ]
    caplog.set_level("INFO")
    code = run_here(monkeypatch, tmp_path, *options)
    done = capfd.readouterr()
    assert code == 0, done.err
    rows = [line.split()[0] for line in done.out.splitlines() if re.match("NTK|width|muP", line)]
    assert rows == ["NTK", "width", "width", "muP"]
    assert "\ntext8, CBOW, V = 14\n" in done.out and "43.31" in done.out
    report = Path(done.out.rsplit("Report:", 1)[1].strip())
    assert report == tmp_path / "runs" / "report-text8-cbow-smoke" / "report.html"
    assert "muP limit" in report.read_text()
    figures = {path.stem for path in (report.parent / "figures").glob("*.png")}
    assert figures >= {"width", "accuracy", "loss"}
    summaries = sorted((tmp_path / "runs").glob("text8-cbow/*/summary.json"))
    assert len(summaries) == 4 and sum('"gram_error"' in s.read_text() for s in summaries) == 2
    assert not list((tmp_path / "data").rglob("*.zip"))
    assert "(done)" not in caplog.text

    before = [summary.stat().st_mtime_ns for summary in summaries]
    assert run_here(monkeypatch, tmp_path, *options) == 0
    assert caplog.text.count("(done)") == 4
    assert [summary.stat().st_mtime_ns for summary in summaries] == before
    assert capfd.readouterr().out == done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corpus=file", "corpus.path=/no/such/text"], "/no/such/text not found"),
        (["corpus=sample", "model=ntk_limit"], "model=ntk_limit is for w2v-inf train"),
        (["corpus=sample", "experiment=paper"], "reproduce.profile chooses the experiment"),
        (["corpus=text8", "corpus.url=http://127.0.0.1:9/x.zip"], "127.0.0.1:9"),
        (["corpus=text8", "corpus.path=/no/such/text8.zip"], "/no/such/text8.zip not found"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_here(monkeypatch, tmp_path, *arguments) == 2
    log = capsys.readouterr().err
    assert "Traceback" not in log and message in log.splitlines()[-1]
    assert not list(tmp_path.rglob("summary.json"))


def test_terminating_ends_the_runs_too(text: Path, tmp_path: Path) -> None:
    where = [
        f"data_dir={tmp_path}/data",
        f"runs_dir={tmp_path}/runs",
        "corpus=file",
        f"corpus.path={text}",
    ]
    long = ["reproduce.profile=smoke", "train.epochs=10000", "reproduce.widths=[4]"]
    command = [sys.executable, SCRIPT, *where, *long]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 1/10000" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    left = subprocess.run(
        ["pgrep", "-f", f"{tmp_path}/runs"], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""


def test_termination_misses_no_process() -> None:
    """Processes that run are ended, and none starts afterwards."""
    children = Children()
    sleeping = children.start(["sleep", "60"])
    assert sleeping is not None
    children.terminate()
    with sleeping:
        assert sleeping.wait(timeout=10) == -signal.SIGTERM
    assert children.start(["sleep", "60"]) is None


def test_a_failed_run_is_named_and_the_others_finish(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def command(job: reproduce.Job) -> list[str]:
        return ["sh", "-c", job.overrides[0]]

    monkeypatch.setattr(reproduce.Job, "command", property(command))
    scripts = ["echo bad >&2; exit 2", f"touch {tmp_path}/done"]
    with pytest.raises(UserError, match="1 of 2 runs failed; .*: bad"):
        reproduce.run_jobs([reproduce.Job([script], config_of(), 1, 1) for script in scripts])
    assert (tmp_path / "done").exists()


def test_finite_runs_of_the_limits_seed_are_compared_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_family(tmp_path, widths=(64, 256), seeds=(0, 1))
    known = tmp_path / "finite-256-seed0"
    for path in tmp_path.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        if path.parent != known:
            path.write_text(json.dumps(summary | {"limit_distance": None}))
    compared: list[str] = []

    def add(folder: Path, *opened: object) -> None:
        compared.append(f"{folder.name} {opened}")

    monkeypatch.setattr(reproduce, "open_run", lambda folder, config: (folder.name, "vocab"))
    monkeypatch.setattr(reproduce, "add_limit_distance", add)
    monkeypatch.setattr(reproduce, "run_folder", lambda config: Path(config.run_dir))
    jobs = [
        reproduce.Job([], config_of(f"run_dir={folder}"), 1, 1) for folder in tmp_path.iterdir()
    ]
    reproduce.compare_with_limits(jobs, config_of())
    opened = ("finite-64-seed0", "vocab", "mup_limit-seed0", "vocab")
    assert compared == [f"finite-64-seed0 {opened}"]


def test_auto_falls_back_loudly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def unavailable(*args: object) -> None:
        raise CorpusUnavailable("no network")

    monkeypatch.setattr(reproduce, "prepare", unavailable)
    assert reproduce.choose_corpora(["train.epochs=1"], tmp_path) == ["planted", "sample"]
    assert "text8 CANNOT BE HAD: no network" in caplog.text
    assert reproduce.choose_corpora(["corpus=text8"], tmp_path) == ["text8"]
    # The path must be that of text8.
    assert reproduce.choose_corpora(["corpus.path=text8.zip"], tmp_path) == ["text8"]


def test_auto_takes_text8_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reproduce, "prepare", lambda *args: None)
    assert reproduce.choose_corpora([], tmp_path) == ["text8"]


def fake_plans(
    monkeypatch: pytest.MonkeyPatch,
    minutes: dict[str, float],
    gib: dict[str, float],
    free_gib: float,
) -> None:
    """Profiles of one job each, by name and engine; absent ones fit nowhere."""

    def plan_profile(
        corpus: str, name: str, engine: Engine, typed: list[str]
    ) -> list[reproduce.Job]:
        name = name if engine is Engine.dense else f"{name} {engine.value}"
        num_bytes = int(gib.get(name, 1e9) * 2**30)
        return [reproduce.Job([name], config_of(), minutes.get(name, 1e9) * 60, num_bytes)]

    monkeypatch.setattr(reproduce, "plan_profile", plan_profile)
    monkeypatch.setattr(reproduce, "free_bytes", lambda device: int(free_gib * 2**30))
    monkeypatch.setattr(reproduce, "num_cores", lambda: 1)


def chosen_by(*options: str, corpus: str = "text8", typed: str = "") -> str:
    """The fake profile that `plan` takes."""
    return reproduce.plan(config_of(*options), corpus, [typed])[0].overrides[0]


@pytest.mark.parametrize(
    ("free_gib", "minutes", "chosen"),
    [(64, 1e6, "paper"), (64, 60, "laptop"), (8, 1e6, "laptop"), (8, 10, "smoke")],
)
def test_auto_takes_the_largest_profile_that_fits(
    free_gib: float, minutes: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, sizes = {"paper": 9000, "laptop": 50, "smoke": 1}, {"paper": 42, "laptop": 2, "smoke": 1}
    fake_plans(monkeypatch, times, sizes, free_gib)
    assert chosen_by(f"reproduce.minutes={minutes}") == chosen


def use_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let device=auto be a GPU."""
    devices = {Device.cpu: "cpu", Device.auto: "cuda", Device.cuda: "cuda"}
    monkeypatch.setattr(reproduce, "pick_device", lambda device: torch.device(devices[device]))


def test_a_gpu_does_the_paper_exactly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Days on a CPU are no reason against it; the memory is the GPU's."""
    fake_plans(monkeypatch, {"paper": 9000}, {"paper": 63}, 79)
    use_gpu(monkeypatch)
    caplog.set_level("INFO")
    jobs = reproduce.plan(config_of(), "text8", [])
    reproduce.print_plan(jobs)
    assert jobs[0].overrides == ["paper"]
    assert "1 runs, 1 at a time, unknown time on a GPU in all" in caplog.text


def test_each_device_holds_its_own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The low-rank limit trains on the CPU beside finite networks on the GPU."""
    use_gpu(monkeypatch)
    free_gib = {"cpu": 8, "cuda": 2}
    monkeypatch.setattr(reproduce, "free_bytes", lambda device: free_gib[device.type] * 2**30)
    monkeypatch.setattr(reproduce, "num_cores", lambda: 4)

    def jobs(gpu_gib: int, cpu_gib: int) -> list[reproduce.Job]:
        sizes = {"device=auto": gpu_gib, "device=cpu": cpu_gib}
        return [reproduce.Job([], config_of(d), 1, gib * 2**30) for d, gib in sizes.items()]

    assert reproduce.fits_memory(jobs(2, 7))
    assert not reproduce.fits_memory(jobs(3, 1)) and not reproduce.fits_memory(jobs(1, 9))
    assert not reproduce.fits_memory(jobs(1, 1) * 3)


def test_the_lowrank_engine_where_the_dense_one_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {"paper": 42, "paper lowrank": 3}
    fake_plans(monkeypatch, {"paper": 9000, "paper lowrank": 50}, sizes, 8)
    assert chosen_by() == "paper lowrank"
    fake_plans(monkeypatch, {"paper": 9000, "paper lowrank": 500}, sizes, 8)
    assert chosen_by("reproduce.profile=paper") == "paper lowrank"


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ("model.engine=dense", "smoke"),
        ("model.engine=lowrank", "smoke lowrank"),
        ("model.rank=3", "smoke lowrank"),
        ("model.tolerance=0.1", "smoke lowrank"),
        ("model.dtype=bfloat16", "smoke"),
    ],
)
def test_a_typed_engine_is_the_only_one_tried(
    typed: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_plans(monkeypatch, {"smoke": 1, "smoke lowrank": 1}, {"smoke": 1, "smoke lowrank": 1}, 8)
    assert chosen_by("reproduce.profile=smoke", typed=typed) == chosen
    fake_plans(monkeypatch, {}, {}, 8)
    with pytest.raises(UserError, match="no profile of smoke fits"):
        chosen_by("reproduce.profile=smoke", typed=typed)


def test_a_plan_has_both_limits_and_every_width_and_seed(text: Path, tmp_path: Path) -> None:
    typed = [f"corpus.path={text}", f"data_dir={tmp_path}"]
    typed += ["reproduce.widths=[4,8]", "reproduce.seeds=2"]
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        jobs = reproduce.plan_profile("file", "smoke", Engine.dense, typed)
    assert [job.name.split(maxsplit=1)[1] for job in jobs] == [
        f"{model} seed {seed}"
        for model, seed in [
            ("mup_limit", 0),
            ("ntk_limit", 0),
            *((f"mup-{width}", seed) for width in (4, 8) for seed in (0, 1)),
        ]
    ]


def test_jobs_of_the_lowrank_engine(text: Path, tmp_path: Path) -> None:
    where = [f"corpus.path={text}", f"data_dir={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        jobs = reproduce.plan_profile("file", "smoke", Engine.lowrank, where)
    limits = [job for job in jobs if job.config.model.name == "mup_limit"]
    assert [job.config.model.engine for job in limits] == [Engine.lowrank]
    assert all("model.engine=lowrank" not in job.overrides for job in jobs if job not in limits)


def test_options_of_the_limit_are_for_the_limit(text: Path, tmp_path: Path) -> None:
    """A rank is not passed on to finite networks."""
    where = [f"corpus.path={text}", f"data_dir={tmp_path}", "model.engine=lowrank", "model.rank=3"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        jobs = reproduce.plan_profile("file", "smoke", Engine.lowrank, where)
    assert [job.config.model.rank for job in jobs if job.config.model.name == "mup_limit"] == [3]
    assert all(
        "model.rank=3" not in job.overrides for job in jobs if job.config.model.name != "mup_limit"
    )


def test_an_ntk_limit_that_does_not_fit_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would need more than half of what is free."""
    monkeypatch.setattr(reproduce, "free_bytes", lambda device: 8 * 2**30)
    caplog.set_level("INFO")
    jobs = [
        reproduce.Job([name], config_of(f"model={name}"), 1, 5 * 2**30)
        for name in ("ntk_limit", "mup_limit")
    ]
    assert reproduce.drop_large_ntk_limit(jobs) == jobs[1:]
    assert "ntk_limit left out: it needs 5.0 GiB" in caplog.text


def test_a_profile_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plans(monkeypatch, {"paper": 9000}, {"paper": 42}, 8)
    with pytest.raises(UserError, match=r"no profile of paper fits: memory free 8.0 GiB \(cpu\)"):
        chosen_by("reproduce.profile=paper")


def test_embedded_corpora_have_their_own_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plans(monkeypatch, {"planted": 2}, {"planted": 1}, 8)
    assert chosen_by(corpus="planted") == "planted"


def test_the_paper_has_its_own_options_on_fil9() -> None:
    assert reproduce.experiments(Profile.paper, "fil9") == ["paper-fil9"]
    assert reproduce.experiments(Profile.auto, "fil9") == ["paper-fil9", "laptop", "smoke"]
    c = config_of("corpus=fil9", "experiment=paper-fil9")
    assert (c.train.epochs, c.corpus.min_count) == (5, 10)


def test_estimates_grow_with_the_work() -> None:
    counts = np.full(1000, 100)
    small, wide, twice, limit = (
        reproduce.estimate_seconds(config_of("stream.subsample_threshold=0", *o), counts)
        for o in (
            ["model.width=64"],
            ["model.width=1024"],
            ["model.width=64", "train.epochs=10"],
            ["model=mup_limit"],
        )
    )
    assert small < wide and twice == pytest.approx(2 * small) and limit > small
    constant, per_column = reproduce.COST_US[Architecture.cbow]
    assert small == pytest.approx(5 * 100_000 * (constant + per_column * 64) * 1e-6)
