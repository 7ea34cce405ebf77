"""The documentation: commands run at a small size, links lead somewhere, code blocks work.

Decisions:
- Stages run in this process on corpora of a few thousand words, so that folders get the names
  that the pages give.
- All pages share one working folder. A command that several pages give runs once, and finished
  runs are found again.
- `make -n` tells which scripts a make target starts. They run on a small text file. The runs of
  `reproduce` are trained in this process too: tests/test_reproduce.py has them in processes.
"""

import inspect
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import config_of
from toy import toy_batch

from w2v_inf import cli, compose, config, reproduce
from w2v_inf.config import PROJECT_ROOT, Config, CorpusConfig
from w2v_inf.corpus import planted, sources
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.evaluation.analogy import Questions, analogy_accuracy, read_questions
from w2v_inf.models import build
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule
from w2v_inf.reporting.plot import plot
from w2v_inf.reporting.report import report
from w2v_inf.training.train import train

DOCS = PROJECT_ROOT / "docs"
FIRST = [PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", DOCS / "running.md"]
"""These draw every run of the shared folder, so they come while there are few."""
PAGES = [*FIRST, *sorted(set(DOCS.glob("*.md")) - {*FIRST})]
WITHOUT_COMMANDS = {
    *("extending.md", "index.md", "lowrank.md", "mathematics.md"),
    *("limit-of.md", "notebook.md", "parallel.md", "results.md"),
}
NOT_RUN = (
    *("make setup", "make test", "make check", "make help"),
    *("pip install ", "pre-commit install", "source .venv"),
)
"""Commands that install, that run the tests themselves, or that list the others."""
RUN = ("w2v-inf ", "torchrun ", "make ", "tr ")
SMALL_MAML = """maml.images=planted maml.path= maml.updates=2 maml.tasks=10 maml.seeds=2
maml.widths=[4]""".split()
"""In place of Omniglot, which the tests do not have."""
FEW_POINTS = ["model.width=4,8", "train.lr=0.01,0.02", "train.epochs=1"]
"""In place of the many points that experiment=figure-transfer gives."""


def code_blocks(page: Path, language: str) -> list[str]:
    """Contents of the page's code blocks in a language."""
    return re.findall(rf"^```(?:{language})\n(.*?)^```$", page.read_text(), re.M | re.S)


def command_lines(page: Path, language: str = "sh|") -> list[str]:
    """Commands of the page's shell blocks, without comments."""
    lines = [
        line.split(" #")[0].strip()
        for block in code_blocks(page, language)
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith((*RUN, *NOT_RUN))]


@dataclass
class Workspace:
    """The folder in which all commands run, and the commands that have run there."""

    folder: Path
    done: set[str] = field(default_factory=set)

    def run(self, command: str) -> None:
        """Run a command, or a script that make plans, unless it has run before."""
        if command in self.done or command.startswith(NOT_RUN):
            return
        self.done.add(command)
        if command.startswith("make "):
            for line in self.planned(command):
                self.run(line)
        elif command.startswith("w2v-inf "):
            _, stage, *options = shlex.split(command)
            self.run_stage(stage, options)
        elif command.startswith("torchrun "):
            self.run_processes(command)
        elif "scripts/" in command:
            _, script, *options = shlex.split(command)
            tiny = ["reproduce.widths=[4]", "train.epochs=1"]
            self.run_stage(Path(script).stem, [*options, *tiny])
        else:
            subprocess.run(["bash", "-c", command], cwd=self.folder, check=True)

    def run_stage(self, stage: str, options: list[str]) -> None:
        """Run a stage in this process, as `w2v-inf STAGE OPTIONS`."""
        if stage == "train" and "experiment=figure-transfer" in options:
            options = [*options, *FEW_POINTS]
        if stage == "maml":
            options = [*options, *SMALL_MAML]
        where = [f"runs_dir={self.folder}/runs", f"data_dir={self.folder}/data"]
        if stage != "reproduce":  # whose runs have one thread each
            where.append("num_threads=1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["w2v-inf", stage, *options, *where])
            patch.setattr(reproduce, "run_jobs", train_here)
            try:
                cli.main()
            except SystemExit as stop:
                assert not stop.code, f"{stage} {shlex.join(options)}: exit code {stop.code}"

    def planned(self, command: str) -> list[str]:
        """The scripts that a make target starts, on a text file and in the smallest profile."""
        # Later variables win.
        small = f"{command} CORPUS={self.folder}/text.txt PROFILE=smoke -n"
        plan = subprocess.run(
            ["bash", "-c", re.sub(r"corpus\.path=\S+", "", small)],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        wanted = [line for line in plan.splitlines() if "scripts/" in line]
        assert wanted, f"{command} starts no script"
        return wanted

    def run_processes(self, command: str) -> None:
        """Run a job of several processes, which take the real sample corpus."""
        words = shlex.split(command.replace("scripts/", f"{PROJECT_ROOT}/scripts/"))[1:]
        small = "stream.subsample_threshold=1e-5"  # drops nearly all of the common words
        where = [f"data_dir={self.folder}/whole", "num_threads=1", small]
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words, *where],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


def train_here(jobs: list[reproduce.Job]) -> None:
    for job in jobs:
        train(job.config)


@pytest.fixture(scope="session")
def documents() -> list[bytes]:
    """Planted text without most of its words, so that few analogy questions are left."""
    texts = [document.split() for document in planted.planted_documents(1)]
    counts = Counter(word for text in texts for word in text)
    kept = {word for word, _ in counts.most_common(200)}
    for _, questions in read_questions():
        kept.update(word for question in questions[:4] for word in question)
    return [" ".join(w for w in text if w in kept).encode() + b"\n" for text in texts]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, documents: list[bytes]) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("docs"))
    for name in ("my-text.txt", "text.txt"):
        (workspace.folder / name).write_bytes(b"".join(documents))
    (workspace.folder / "my-questions.txt").write_text("king\tqueen/princess\nman\twoman\n")
    (workspace.folder / "my-scores.txt").write_text("king queen 9\nman woman 8\nking man 3\n")
    return workspace


@pytest.fixture
def workspace(
    shared: Workspace, documents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """The shared working folder, entered, with small embedded corpora."""

    def describe(corpus: CorpusConfig) -> sources.Source:
        origin = Origin(str(corpus.name), "a few words", "00", "", "none", True)
        return sources.Source(origin, lambda: iter(documents))

    monkeypatch.setattr(sources, "_describe_sample", describe)
    monkeypatch.setattr(sources, "_describe_planted", describe)
    monkeypatch.chdir(shared.folder)
    return shared


@pytest.mark.slow  # trains whole runs
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs(page: Path, workspace: Workspace) -> None:
    for command in command_lines(page):
        workspace.run(command)
    if page.name == "tutorial.md":  # notebook.md is tested with the API
        for block in code_blocks(page, "python"):
            exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_line_of_a_shell_block_is_known(page: Path) -> None:
    lines = [line.strip() for block in code_blocks(page, "sh") for line in block.splitlines()]
    assert len([line for line in lines if line]) == len(command_lines(page, "sh"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_options_compose(page: Path) -> None:
    for block in code_blocks(page, ""):
        words = block.split()
        if all("=" in word for word in words):
            config_of(*words)


@pytest.fixture
def page_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What docs/extending.md defines, with its model in the places that the page names."""
    page = DOCS / "extending.md"
    model, options, initialise = code_blocks(page, "python")
    names = dict(vars(config))
    for block in (model, options):
        exec(compile(block, str(page), "exec"), names)
    conf = tmp_path / "conf"
    shutil.copytree(config.CONF, conf)
    [text] = code_blocks(page, "yaml")
    (conf / "model" / "count.yaml").write_text(text)
    monkeypatch.setattr(compose, "CONF", conf)
    monkeypatch.setitem(config.MEMBERS, "model", (*config.MODELS, names["Count"]))
    function = "def added(options, vocab_size, rule):\n" + textwrap.indent(initialise, "    ")
    exec(compile(function, str(page), "exec"), names)
    others = build._initialise

    def initialise_any(options: Config, vocab_size: int, *rest: Any) -> Model:
        model = names["added"](options.model, vocab_size, UpdateRule())
        return model or others(options, vocab_size, *rest)

    monkeypatch.setattr(build, "_initialise", initialise_any)
    return names


def test_the_model_of_the_docs_is_one(page_names: dict[str, Any]) -> None:
    model, again, fresh = (page_names["init_count"](7, UpdateRule()) for _ in range(3))
    batches = [toy_batch(seed, 7, 5, 4, 3, 1) for seed in range(3)]
    assert model.train_batches(batches) == [again.update(batch) for batch in batches]
    seen = sum(int((batch.context >= 0).sum()) for batch in batches)
    assert float(model.squared_norms().sum()) == seen == float(again.counts.sum())
    torch.testing.assert_close(model.gram(torch.arange(7)).diagonal(), model.squared_norms())
    x = torch.rand(7, 2)
    torch.testing.assert_close(model.gram_matmul(x), model.gram(torch.arange(7)) @ x)
    fresh.load(model.state())
    questions = Questions(torch.tensor([[0, 1, 2, 3]]), torch.tensor([0]), ["one"], [1])
    assert analogy_accuracy(fresh, questions) == analogy_accuracy(model, questions)


def test_the_table_of_the_docs_has_the_protocol() -> None:
    page = (DOCS / "extending.md").read_text()
    table = page.partition("| member |")[2].partition("\n\n")[0]
    rows = [(re.findall(r"`(\w+)`", row), "optional" in row) for row in table.splitlines()]
    assert {name for names, _ in rows for name in names} == {
        name for name in [*vars(Model), *Model.__annotations__] if not name.startswith("_")
    }
    optional = {name for names, is_optional in rows if is_optional for name in names}
    sources = {name: inspect.getsource(f) for name, f in vars(Model).items() if name in optional}
    assert len(sources) == 3 and not any(s.rstrip().endswith("...") for s in sources.values())


@pytest.mark.slow  # trains two runs
def test_the_model_of_the_docs_is_trained_drawn_and_reported(
    page_names: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    common = [f"runs_dir={tmp_path}/runs", f"data_dir={workspace.folder}/data", "num_threads=1"]
    for model in ("count", "mup_limit"):
        options = [f"model={model}", "corpus=sample", "train.epochs=1", *common]
        train(compose.compose_config(*options))
    runs = compose.compose_config(f"plot.runs=[{tmp_path}/runs]", *common)
    drawn = {path.name for path in plot(runs)}
    assert {"width.svg", "pca.svg", "loss.svg", "sections.svg", "accuracy.svg"} <= drawn
    page = report(runs).read_text()
    assert page.index("muP limit</td>") < page.index("count</td>")


def test_the_example_of_a_users_network_prints_what_the_page_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = DOCS / "limit-of.md"
    [example], [printed] = code_blocks(page, "python"), code_blocks(page, "text")
    with torch.random.fork_rng():
        exec(compile(example, str(page), "exec"), {})
    assert capsys.readouterr().out == printed


def test_the_pages_have_commands() -> None:
    assert {page.name for page in PAGES if not command_lines(page)} == WITHOUT_COMMANDS
    assert len((PROJECT_ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_links_of_the_pages_exist(page: Path) -> None:
    text = page.read_text()
    folders = "w2v_inf|docs|scripts|tests|benchmarks|records|conf"
    named = re.findall(rf"`((?:{folders})/[\w./*-]+)`", text)
    missing = [name for name in named if not list(PROJECT_ROOT.glob(name))]
    assert not [name for name in missing if not re.search("NAME|DATE", name)]
    for name, _, anchor in (
        link.partition("#") for link in re.findall(r"\]\((?!http)([^)]+)\)", text)
    ):
        target = page.parent / name if name else page
        assert target.exists(), f"{name} does not exist"
        assert not anchor or anchor in anchors(target), f"{name} has no heading #{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
