"""The main job at toy size: plan, fallback, going on, and what it refuses."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from hydra import initialize_config_dir

from w2v_inf import reproduce
from w2v_inf.config import CONF, PROJECT_ROOT, Architecture, Engine, Profile
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.errors import UserError

pytestmark = pytest.mark.slow  # trains whole runs or starts processes


def run_script(
    tmp_path: Path, *arguments: str, start: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    where = [f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs"]
    command = [
        sys.executable,
        *start,
        str(PROJECT_ROOT / "scripts" / "reproduce.py"),
        *where,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = np.array(
        "paris france berlin germany madrid spain king queen man woman a b c d".split()
    )
    rng = np.random.default_rng(0)
    path = tmp_path / "toy.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 50)) for _ in range(60)))
    return path


def test_the_whole_job_and_going_on(text: Path, tmp_path: Path) -> None:
    arguments = [
        "corpus=file",
        f"corpus.path={text}",
        "reproduce.profile=smoke",
        "reproduce.widths=[4,8]",
        "reproduce.seeds=2",
    ]
    done = run_script(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert [
        line.split()[0] for line in done.stdout.splitlines() if re.match("NTK|width|muP", line)
    ] == ["NTK", "width", "width", "muP"]
    report = Path(done.stdout.rsplit("Report:", 1)[1].strip())
    assert report.name == "report.html" and "muP limit" in report.read_text()
    assert {p.stem for p in (report.parent / "figures").glob("*.png")} >= {
        "width",
        "accuracy",
        "loss",
    }
    summaries = sorted((tmp_path / "runs").glob("*/*/summary.json"))
    assert len(summaries) == 6 and sum('"gram_error"' in s.read_text() for s in summaries) == 2

    before = [s.stat().st_mtime_ns for s in summaries]
    again = run_script(tmp_path, *arguments)
    assert again.returncode == 0 and again.stderr.count("(done)") == 6
    assert [s.stat().st_mtime_ns for s in summaries] == before and again.stdout == done.stdout


def test_the_whole_job_on_a_local_zip_of_text8(text: Path, tmp_path: Path) -> None:
    archive, content = tmp_path / "text8.zip", " ".join(text.read_text().split()).encode()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("text8", content)
    # Only the process that reads the zip checks its text; the runs find it encoded.
    start = """import dataclasses, runpy, sys
from w2v_inf.corpus import sources
_, md5, *sys.argv = sys.argv
sources.TEXT8 = dataclasses.replace(sources.TEXT8, md5=md5)
runpy.run_path(sys.argv[0], run_name="__main__")"""
    options = [
        "corpus=text8",
        f"corpus.path={archive}",
        "reproduce.profile=smoke",
        "reproduce.widths=[4]",
    ]
    done = run_script(tmp_path, *options, start=["-c", start, hashlib.md5(content).hexdigest()])
    assert done.returncode == 0, done.stderr
    assert "\ntext8, CBOW, V = 14\n" in done.stdout and "43.31" in done.stdout
    assert (
        "Report: " in done.stdout
        and (tmp_path / "runs" / "report-text8-cbow-smoke" / "report.html").exists()
    )
    assert len(list((tmp_path / "runs" / "text8-cbow").glob("*/summary.json"))) == 3
    assert not list((tmp_path / "data").rglob("*.zip"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corpus=file", "corpus.path=/no/such/text"], "/no/such/text not found"),
        (["corpus=sample", "model=ntk_limit"], "model=ntk_limit is for scripts/train.py"),
        (["corpus=sample", "experiment=paper"], "reproduce.profile chooses the experiment"),
        (["corpus=text8", "corpus.url=http://127.0.0.1:9/x.zip"], "127.0.0.1:9"),
        (["corpus=text8", "corpus.path=/no/such/text8.zip"], "/no/such/text8.zip not found"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("summary.json"))


def test_terminating_ends_the_runs_too(text: Path, tmp_path: Path) -> None:
    where = [
        f"data_dir={tmp_path}/data",
        f"runs_dir={tmp_path}/runs",
        "corpus=file",
        f"corpus.path={text}",
    ]
    long = ["reproduce.profile=smoke", "train.epochs=10000", "reproduce.widths=[4]"]
    command = [sys.executable, str(PROJECT_ROOT / "scripts" / "reproduce.py"), *where, *long]
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


def test_auto_falls_back_loudly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def unavailable(*args: object) -> None:
        raise CorpusUnavailable("no network")

    monkeypatch.setattr(reproduce, "prepare", unavailable)
    assert reproduce.choose_corpora(["train.epochs=1"], tmp_path) == ["planted", "sample"]
    assert "text8 CANNOT BE HAD: no network" in caplog.text
    assert reproduce.choose_corpora(["corpus=text8"], tmp_path) == ["text8"]
    assert reproduce.choose_corpora(["corpus.path=text8.zip"], tmp_path) == [
        "text8"
    ]  # whose path it must be


def test_auto_takes_text8_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reproduce, "prepare", lambda *args: None)
    assert reproduce.choose_corpora([], tmp_path) == ["text8"]


def fake_plans(
    monkeypatch: pytest.MonkeyPatch,
    minutes: dict[str, float],
    gib: dict[str, float],
    free_gib: float,
) -> None:
    def plan_profile(
        corpus: str, name: str, engine: Engine, typed: list[str]
    ) -> list[reproduce.Job]:
        name = name if engine is Engine.dense else f"{name} {engine.value}"
        return [
            reproduce.Job(
                [name], config_of(), minutes.get(name, 1e9) * 60, int(gib.get(name, 1e9) * 2**30)
            )
        ]

    monkeypatch.setattr(reproduce, "plan_profile", plan_profile)
    monkeypatch.setattr(reproduce, "free_bytes", lambda device: int(free_gib * 2**30))
    monkeypatch.setattr(reproduce, "num_workers", lambda: 1)


@pytest.mark.parametrize(
    ("free_gib", "minutes", "chosen"),
    [(64, 1e6, "paper"), (64, 60, "laptop"), (8, 1e6, "laptop"), (8, 10, "smoke")],
)
def test_auto_takes_the_largest_profile_that_fits(
    free_gib: float, minutes: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_plans(
        monkeypatch,
        {"paper": 9000, "laptop": 50, "smoke": 1},
        {"paper": 42, "laptop": 2, "smoke": 1},
        free_gib,
    )
    assert reproduce.plan(config_of(f"reproduce.minutes={minutes}"), "text8", [])[0].overrides == [
        chosen
    ]


def test_a_card_does_the_paper_exactly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What takes days on a CPU is no reason against it; the memory is the card's."""
    fake_plans(monkeypatch, {"paper": 9000}, {"paper": 63}, 79)
    monkeypatch.setattr(reproduce, "pick_device", lambda device: torch.device("cuda"))
    caplog.set_level("INFO")
    jobs = reproduce.plan(config_of(), "text8", [])
    reproduce.print_plan(jobs)
    assert (
        jobs[0].overrides == ["paper"]
        and "1 runs, 1 at a time, unknown time on a card in all" in caplog.text
    )


def test_the_lowrank_engine_where_the_dense_one_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_plans(
        monkeypatch, {"paper": 9000, "paper lowrank": 50}, {"paper": 42, "paper lowrank": 3}, 8
    )
    assert reproduce.plan(config_of(), "text8", [])[0].overrides == ["paper lowrank"]
    fake_plans(
        monkeypatch, {"paper": 9000, "paper lowrank": 500}, {"paper": 42, "paper lowrank": 3}, 8
    )
    assert reproduce.plan(config_of("reproduce.profile=paper"), "text8", [])[0].overrides == [
        "paper lowrank"
    ]


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
def test_an_engine_that_was_asked_for_is_the_only_one_tried(
    typed: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_plans(monkeypatch, {"smoke": 1, "smoke lowrank": 1}, {"smoke": 1, "smoke lowrank": 1}, 8)
    assert reproduce.plan(config_of("reproduce.profile=smoke"), "text8", [typed])[0].overrides == [
        chosen
    ]
    fake_plans(monkeypatch, {}, {}, 8)
    with pytest.raises(UserError, match="no profile of smoke fits"):
        reproduce.plan(config_of("reproduce.profile=smoke"), "text8", [typed])


def test_jobs_of_the_lowrank_engine(text: Path, tmp_path: Path) -> None:
    where = [f"corpus.path={text}", f"data_dir={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        jobs = reproduce.plan_profile("file", "smoke", Engine.lowrank, where)
    limits = [job for job in jobs if job.config.model.name == "mup_limit"]
    assert [job.config.model.engine for job in limits] == [Engine.lowrank]
    assert all("model.engine=lowrank" not in job.overrides for job in jobs if job not in limits)


def test_options_of_the_limit_are_for_the_limit(text: Path, tmp_path: Path) -> None:
    """A rank is not passed on to finite nets."""
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
    assert reproduce.without_what_needs_no_run(jobs, config_of()) == jobs[1:]
    assert "ntk_limit left out: 5.0 GiB" in caplog.text


def test_a_profile_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plans(monkeypatch, {"paper": 9000}, {"paper": 42}, 8)
    with pytest.raises(UserError, match="no profile of paper fits: memory free 8.0 GiB"):
        reproduce.plan(config_of("reproduce.profile=paper"), "text8", [])


def test_embedded_corpora_have_their_own_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plans(monkeypatch, {"planted": 2}, {"planted": 1}, 8)
    assert reproduce.plan(config_of(), "planted", [])[0].overrides == ["planted"]


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
