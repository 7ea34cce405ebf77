"""Scripts as a shell sees them: exit codes, one line, no traceback."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from w2v_inf.cli import describe
from w2v_inf.config import PROJECT_ROOT, Config

pytestmark = pytest.mark.slow  # trains whole runs or starts processes


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT_ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["model.widht=9"],
            "Key 'widht' not in 'Finite': did you mean width? There are name, output_init_scale, width, ",
        ),
        (["epochs=3"], "Key 'epochs' not in 'Config'. There are corpus, stream, model, train, "),
        (["--epochs", "3"], "--epochs is no flag: options are NAME=VALUE, as in train.epochs=3"),
        (["--width=64"], "--width is no flag"),
        (
            ["reproduce.widths=[]"],
            "reproduce.widths must be a list of widths of at least 1, got []",
        ),
        (["reproduce.minutes=-5"], "reproduce.minutes must be above 0"),
        (["+model.widht=9"], "model.widht is not an option"),
        (["model.width=many"], "Value 'many' of type 'str' could not be converted to Integer"),
        (["experiment=nix"], "Could not find 'experiment/nix'"),
        (["corpus=file", "corpus.path=/no/such/file"], "/no/such/file not found"),
        (["model.width="], "model.width"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = script("train.py", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_whoever_reads_may_stop_early() -> None:
    """`train.py --help | head -1`: no traceback."""
    command = f"{sys.executable} {PROJECT_ROOT / 'scripts' / 'train.py'} --help | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_multirun_trains_every_point(tmp_path: Path) -> None:
    text = tmp_path / "toy.txt"
    text.write_text("the cat sat on the mat and the dog sat on the cat\n" * 40)
    common = [
        f"corpus.path={text}",
        f"data_dir={tmp_path}",
        "train.epochs=1",
        "num_threads=1",
        f"hydra.sweep.dir={tmp_path}/sweep",
    ]
    run_dir = f"run_dir={tmp_path}/runs/${{model.width}}"
    done = script("train.py", "-m", "corpus=file", "model.width=4,8", run_dir, *common)
    assert done.returncode == 0, done.stderr
    assert sorted(p.parent.name for p in tmp_path.glob("runs/*/summary.json")) == ["4", "8"]
    bad = script("train.py", "-m", "corpus=file", "model.width=0,16", run_dir, *common)
    assert (
        bad.returncode == 2
        and "model.width must be from 1" in bad.stderr
        and "Traceback" not in bad.stderr
    )
    assert (
        tmp_path / "runs/16/summary.json"
    ).exists() and "train.py: 1 point of the sweep failed" in bad.stderr.splitlines()[-1]


def test_the_joblib_launcher_trains_points_at_once(tmp_path: Path) -> None:
    text = tmp_path / "toy.txt"
    text.write_text("the cat sat on the mat and the dog sat on the cat\n" * 40)
    common = [
        "corpus=file",
        f"corpus.path={text}",
        f"data_dir={tmp_path}/data",
        f"runs_dir={tmp_path}/runs",
        "train.epochs=1",
    ]
    launcher = [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "num_threads=1",
        "stream.subsample_threshold=0",
    ]
    done = script("train.py", "-m", "model.width=4,8,16", *common, *launcher)
    assert done.returncode == 0, done.stderr
    assert (
        len(list(tmp_path.glob("runs/toy-cbow/*/summary.json"))) == 3
        and done.stderr.count("epoch 1/1") == 3
    )
    drawn = script("plot.py", f"plot.runs=[{tmp_path}/runs]", "plot.figure=loss")
    assert drawn.returncode == 0, drawn.stderr
    assert (
        all(f"width {width} " in drawn.stdout for width in (4, 8, 16))
        and "loss.svg\n" in drawn.stdout
    )
    bad = script("train.py", "-m", "model.width=32,0", *common, *launcher)
    # Once, and whole; the other point, which trains at the same time, may say something after it.
    assert bad.returncode == 2 and "Traceback" not in bad.stderr
    assert (
        bad.stderr.splitlines().count("train.py: model.width must be from 1 to 1,000,000, got 0")
        == 1
    )


@pytest.mark.parametrize("name", sorted(p.name for p in (PROJECT_ROOT / "scripts").glob("*.py")))
def test_every_script_explains_itself(name: str) -> None:
    done = script(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(
        (PROJECT_ROOT / "scripts" / name).read_text().splitlines()[0].strip('"')[:40]
    )
    assert all(
        f"\n{f.name}: " in done.stdout for f in dataclasses.fields(Config) if f.name in GROUPS
    )
    assert max(map(len, done.stdout.splitlines())) <= 125


GROUPS = ("corpus", "stream", "model", "train", "evaluate", "export", "plot", "reproduce")


def test_help_explains_every_option_and_choice() -> None:
    text = describe("")
    for line in (
        "model.dtype=float32",
        "corpus.min_count=10",
        "float32 | bfloat16. How",
        "num_threads=0",
    ):
        assert line in text
    unexplained = [
        line
        for line in text.splitlines()
        if re.fullmatch(r" {4}\S+=\S*", line.rstrip()) and len(line) < 40
    ]
    assert not unexplained
