"""Every command of README.md and docs/ runs, at a small size; every path that they name exists.

Scripts run in this process, on a `sample` and a `planted` corpus cut to a few thousand words, so that names of run folders are
those that the texts give. Targets of make are asked for their commands (`make -n`), which run on a small text file.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import toy_batch

from w2v_inf import cli
from w2v_inf.config import PROJECT_ROOT, CorpusConfig
from w2v_inf.corpus import planted, sources
from w2v_inf.corpus.encode import Origin
from w2v_inf.evaluation.analogy import Questions, analogy_accuracy
from w2v_inf.models.protocol import Model

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]
STAGES = {
    "prepare": ("corpus.prepare", "prepare_stage"),
    "train": ("training.train", "train"),
    "evaluate": ("evaluation.evaluate", "evaluate"),
    "plot": ("reporting.plot", "plot_stage"),
    "report": ("reporting.report", "report"),
    "export": ("export", "export"),
}
NOT_RUN = ("make test", "make help", "make setup")
"""This test would run itself; prints the others; is run by whoever runs tests."""


def commands(page: Path) -> list[str]:
    """Commands of the page's code blocks, without comments."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", page.read_text(), re.M | re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("python ", "make ", "torchrun "))]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder in which `runs/` and the corpora are small and new."""
    documents = [document.encode() + b"\n" for document in planted.planted_documents(20_000)]

    def describe(corpus: CorpusConfig) -> sources.Source:
        corpus.min_count = 2
        return sources.Source(
            Origin(str(corpus.name), "a few words", "00", "", "none", True), lambda: iter(documents)
        )

    monkeypatch.setattr(sources, "_describe_sample", describe)
    monkeypatch.setattr(sources, "_describe_planted", describe)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(b"".join(documents[:200]))
    yield tmp_path


def run_script(name: str, arguments: list[str], folder: Path) -> None:
    """As `python scripts/NAME.py ARGUMENTS` in the folder, where runs and corpora are kept."""
    where = [f"runs_dir={folder}/runs", f"data_dir={folder}/data", "num_threads=1"]
    module, function = STAGES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *arguments, *where])
        cli.run(getattr(import_module(f"w2v_inf.{module}"), function))


def planned_by(command: str, text: Path) -> list[str]:
    """The scripts that a make target starts, on a text file and in the smallest profile."""
    small = re.sub(r"corpus\.path=\S+", "", f"{command} CORPUS={text} PROFILE=smoke")
    planned = subprocess.run(
        ["bash", "-c", f"{small} -n"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout
    wanted = [line for line in planned.splitlines() if "scripts/" in line]
    assert wanted, f"{command} plans no script"
    return wanted


def run_planned(line: str, folder: Path) -> None:
    """One script, as make would run it."""
    _, script, *arguments = shlex.split(line)
    tiny = [
        "corpus.min_count=2",
        "reproduce.widths=[4]",
        f"runs_dir={folder}/make",
        f"data_dir={folder}/data",
    ]
    done = subprocess.run(
        [sys.executable, script, *arguments, *tiny],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"


def run_ranks(command: str, folder: Path) -> None:
    """A job of several processes, which take the real sample corpus."""
    words = shlex.split(command.replace("scripts/", f"{PROJECT_ROOT}/scripts/"))[1:]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *words,
        f"data_dir={folder}/whole",
        "num_threads=1",
    ]
    done = subprocess.run(launcher, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.slow  # trains whole runs
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs(page: Path, small: Path) -> None:
    planned = []
    for command in commands(page):
        if command.startswith("python "):
            _, script, *arguments = shlex.split(command)
            run_script(Path(script).stem, arguments, small)
        elif command.startswith("torchrun "):
            run_ranks(command, small)
        elif not command.startswith(NOT_RUN):
            planned += planned_by(command, small / "text.txt")
    for line in dict.fromkeys(planned):
        run_planned(line, small)


def test_the_model_of_the_docs_is_one() -> None:
    [block] = re.findall(
        r"^```python\n(.*?)^```$", (PROJECT_ROOT / "docs" / "extending.md").read_text(), re.M | re.S
    )
    names: dict[str, Any] = {}
    exec(compile(block, "docs/extending.md", "exec"), names)
    model, again = (names["CountModel"](torch.zeros(7, 7)) for _ in range(2))
    batches = [toy_batch(seed, 7, 5, 4, 3, 1) for seed in range(3)]
    assert model.train_batches(batches) == [again.update(batch) for batch in batches]
    seen = sum(int((batch.context >= 0).sum()) for batch in batches)
    assert float(model.squared_norms().sum()) == seen == float(again.counts.sum())
    torch.testing.assert_close(model.gram(torch.arange(7)).diagonal(), model.squared_norms())
    x = torch.rand(7, 2)
    torch.testing.assert_close(model.gram_matmul(x), model.gram(torch.arange(7)) @ x)
    fresh = names["CountModel"](torch.zeros(7, 7))
    fresh.load(model.state())
    questions = Questions(torch.tensor([[0, 1, 2, 3]]), torch.tensor([0]), ["one"], [1])
    assert analogy_accuracy(fresh, questions) == analogy_accuracy(model, questions)
    # What the protocol asks for is what the model has.
    assert {name for name in vars(Model) if not name.startswith("_")} <= set(dir(model))


def test_the_pages_have_commands() -> None:
    assert {page.name: len(commands(page)) for page in PAGES if not commands(page)} == {
        "example.md": 0,
        "extending.md": 0,
        "lowrank.md": 0,
        "mathematics.md": 0,
    }
    assert len((PROJECT_ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_name_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(
        r"`((?:w2v_inf|docs|scripts|tests|benchmarks|records|conf)/[\w./*-]+)`", text
    )
    named += [
        f"{page.parent.relative_to(PROJECT_ROOT)}/{name}"
        for name in re.findall(r"\]\((?!http)([^)#]+)\)", text)
    ]
    missing = [name for name in named if "NAME" not in name and not list(PROJECT_ROOT.glob(name))]
    assert not missing
