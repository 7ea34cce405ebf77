"""Commands as a shell sees them: exit codes, one line, no traceback."""

import dataclasses
import io
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import w2v_inf
from w2v_inf import cli
from w2v_inf.cli import STAGES, describe
from w2v_inf.compose import search_path
from w2v_inf.config import PROJECT_ROOT, Config, Finite, Sample
from w2v_inf.errors import NO_WINDOWS
from w2v_inf.reproduce import Job

pytestmark = pytest.mark.slow  # trains whole runs or starts processes


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT_ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["model.widht=9"],
            "model.widht is not an option: did you mean model.width? There are output_init_scale, ",
        ),
        (["epochs=3"], "epochs is not an option: did you mean train.epochs? There are corpus, "),
        (["--epochs", "3"], "--epochs is no flag: options are NAME=VALUE, as in train.epochs=3"),
        (["--width=64"], "--width is no flag"),
        (
            ["reproduce.widths=[]"],
            "reproduce.widths must be a list of widths of at least 1, got []",
        ),
        (["reproduce.minutes=-5"], "reproduce.minutes must be above 0"),
        (["+model.widht=9"], "model.widht is not an option"),
        (["model.width=many"], "train.py: model.width must be a whole number, got many"),
        (["model.width=16,64"], "train.py: model.width=16,64: several values need a sweep: add -m"),
        (["model.width", "16"], "model.width has no value: write model.width=16, without blanks"),
        (["-m", "model.width=4,many"], "model.width must be a whole number, got many"),
        (["experiment=nix"], "experiment=nix does not exist. There are figure-transfer, "),
        (["model.storage=bfloat16"], "train.py: model.storage is now model.dtype"),
        (["experiment=figure-pca"], "train.py: experiment=figure-pca is now experiment=figures"),
        (["corpus=file", "corpus.path=/no/such/file"], "/no/such/file not found"),
        (["corpus=file", "corpus.path=no.txt"], f"corpus.path: {Path.cwd()}/no.txt not found"),
        (["model.width="], "model.width"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/train.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.run_stage("train")
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == ""
    assert message in said.err and said.err.startswith("train.py: ") and said.err.count("\n") == 1


def test_the_reader_of_stdout_may_stop_early() -> None:
    """`train.py --help | head -1`: no traceback."""
    command = f"{sys.executable} {PROJECT_ROOT / 'scripts' / 'train.py'} --help | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.count("\n") == 1 and done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_text_fails_for_the_encoding_of_a_stream(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONIOENCODING=ascii, and names of files that are not UTF-8."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, "strict"))
    cli._print_any_character()
    print("5.3 ± 0.3 дом \udcff", flush=True)
    said = written.getvalue().decode(encoding)
    assert said.endswith("\\udcff\n")
    assert said.startswith("5.3 +- 0.3 \\u0434" if encoding == "ascii" else "5.3 ± 0.3 ")


def test_children_look_for_options_where_their_parent_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the runs of reproduce do, with a folder of the user's own."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    found: list[str] = []

    def look(config: Config) -> None:
        assert config.seed == 7
        found.extend(search_path())

    own = ["--config-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["x.py", *own, "experiment=mine"])
    cli.run(look)
    assert found == own
    job = Job(["experiment=mine"], Config(Sample(), model=Finite()), 1, 1, found)
    assert job.command[3:] == ["train", *own, "experiment=mine"]
    monkeypatch.setattr(sys, "argv", ["x.py"])
    found.clear()
    cli.run(lambda config: found.extend(search_path()))
    assert found == []


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
    # Every point says the same of itself, and Hydra says nothing.
    starts = [line.split(":")[0] for line in done.stderr.splitlines()]
    points = [starts[starts.index(f"{tmp_path}/runs/{width}") :][:3] for width in (4, 8)]
    assert points[0][1:] == points[1][1:] and not any("#" in start for start in starts)
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
        len(list(tmp_path.glob("runs/toy-*-cbow/*/summary.json"))) == 3
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


def test_scripts_are_the_stages() -> None:
    names = {p.stem for p in (PROJECT_ROOT / "scripts").glob("*.py")}
    assert names == {*STAGES}
    for name in STAGES:
        assert f'run_stage("{name}")' in (PROJECT_ROOT / "scripts" / f"{name}.py").read_text()
        stage = import_module(f"w2v_inf.{STAGES[name].module}")
        assert callable(getattr(stage, STAGES[name].function))


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    cli.run_stage(name)
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith(STAGES[name].about)
    assert all(f"\n{f.name}: " in said.out for f in dataclasses.fields(Config) if f.name in GROUPS)
    assert max(map(len, said.out.splitlines())) <= 125


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`w2v-inf ARGUMENTS`, started in a folder that is no checkout."""
    module = [sys.executable, "-m", "w2v_inf", *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.run(module, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_is_the_same_as_the_script(tmp_path: Path) -> None:
    assert (
        command("theory", "--help", folder=tmp_path).stdout == script("theory.py", "--help").stdout
    )
    mistake = command("train", "model.width=0", folder=tmp_path)
    assert mistake.returncode == 2 and mistake.stdout == ""
    assert mistake.stderr == "w2v-inf train: model.width must be from 1 to 1,000,000, got 0\n"


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `w2v-inf ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["w2v-inf", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_names_its_stages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert run_main(monkeypatch, *arguments) == 0
        said = capsys.readouterr()
        assert said.err == "" and all(f"  {name} " in said.out for name in STAGES)
    assert run_main(monkeypatch, "--version") == 0
    assert (
        capsys.readouterr().out
        == f"w2v-inf {version('w2v_inf')}\n"
        == f"w2v-inf {w2v_inf.__version__}\n"
    )
    assert run_main(monkeypatch, "nix", "train.epochs=1") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("w2v-inf: nix is not a stage: there are prepare, train, ")


def test_windows_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("w2v_inf.cli.os.name", "nt")
        assert run_main(patch, "train") == 2
        with pytest.raises(ImportError, match="on Windows use WSL"):
            _ = w2v_inf.train
    assert capsys.readouterr().err == "w2v-inf train: " + NO_WINDOWS + "\n"


def test_an_error_of_ours_is_no_mistake_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that a stage misses is a bug. A sweep folder that cannot be made is a mistake."""

    def buggy(config: Config) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ours.txt")

    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(FileNotFoundError):
        cli.run(buggy)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", f"runs_dir={tmp_path}/file"])
    with pytest.raises(SystemExit) as stop:
        cli.run(buggy)
    assert stop.value.code == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    path = tmp_path / "file" / "multirun"
    reason = (
        "cannot be written (Not a directory): a part of the path is a file: choose another folder"
    )
    assert last_line == f"train.py: {path} {reason}"


GROUPS = (
    "corpus",
    "stream",
    "model",
    "train",
    "evaluate",
    "export",
    "baseline",
    "plot",
    "explore",
    "reproduce",
    "maml",
)


def test_help_explains_every_option_and_choice() -> None:
    text = describe("")
    for line in (
        "model.dtype=float32",
        "corpus.min_count=10",
        "float32 | bfloat16. Of the dense",
        "num_threads=null",
    ):
        assert line in text
    unexplained = [
        line
        for line in text.splitlines()
        if re.fullmatch(r" {4}\S+=\S*", line.rstrip()) and len(line) < 40
    ]
    assert not unexplained
