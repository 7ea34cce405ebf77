"""The command `w2v-inf STAGE OPTIONS`, and how every stage starts and ends.

Decisions:
- Hydra reads the options, the library does the work. A user's mistake is one line and exit code 2.
- scripts/NAME.py is the same as `w2v-inf NAME`. A stage is imported once its options are right, so
  help and mistakes need not wait for torch.
- --help is written from the docstrings of config/, so it cannot miss an option.
- Waiting OpenMP threads sleep. Threads that spin take 20 to 60 times as long as one thread alone
  when anything else runs on the cores. Only the command sets that: a notebook keeps its own choice.
"""

import ast
import codecs
import dataclasses
import inspect
import io
import logging
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from importlib import import_module, metadata
from typing import Any, NamedTuple, NoReturn, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig
from omegaconf.errors import OmegaConfBaseException

from w2v_inf import config as options
from w2v_inf.compose import load, register
from w2v_inf.config import CONF, MEMBERS, Config
from w2v_inf.errors import NO_WINDOWS, UserError
from w2v_inf.mistakes import explain
from w2v_inf.overrides import as_typed
from w2v_inf.system_errors import explained, system_error

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch loads OpenMP


class Stage(NamedTuple):
    module: str
    """Where the function lies, below w2v_inf."""
    function: str
    about: str
    """The first line of its help."""
    is_parallel: bool = False
    """Whether torchrun may start it in several processes."""


STAGES = {
    "prepare": Stage(
        "corpus.prepare",
        "prepare_stage",
        "Encode a corpus into data_dir; download it if need be.",
    ),
    "train": Stage(
        "training.train",
        "train",
        "Train one model on a corpus and evaluate it after each epoch.",
        is_parallel=True,
    ),
    "evaluate": Stage(
        "evaluation.evaluate",
        "evaluate",
        "Evaluate a finished run (run_dir=FOLDER), any vectors, or several side by side.",
        is_parallel=True,
    ),
    "plot": Stage(
        "reporting.plot",
        "plot_stage",
        "Draw figures of finished runs (plot.runs=[FOLDER] plot.figure=NAME).",
    ),
    "report": Stage(
        "reporting.report",
        "report",
        "Write report.html, one page on finished runs (plot.runs=[FOLDER]).",
    ),
    "explore": Stage(
        "explore.page",
        "explore",
        "Write explore.html: maps, neighbours and analogies to play with (plot.runs=[FOLDER]).",
    ),
    "export": Stage(
        "export.stage",
        "export",
        "Write the vectors of a finished run (run_dir=FOLDER) for other programs.",
    ),
    "baseline": Stage(
        "baseline",
        "baseline",
        "Write vectors made from a corpus's word pairs alone (PPMI, M*), and evaluate them.",
    ),
    "reproduce": Stage(
        "reproduce",
        "reproduce",
        "The whole comparison: corpus, every model, figures, report.",
    ),
    "theory": Stage(
        "theory.page",
        "theory",
        "Measure the theory's predictions and write theory.html.",
    ),
    "maml": Stage(
        "maml.stage",
        "maml",
        "First-order MAML at finite widths, in the muP limit and with kernels.",
    ),
}
USAGE = "usage: w2v-inf STAGE OPTIONS (all options of a stage: w2v-inf STAGE --help)"
FLAGS = """-m --multirun -r --run -c --cfg -p --package -i --info -cp --config-path -cn
--config-name -cd --config-dir -sc --shell-completion --resolve --version --hydra-help
--experimental-rerun""".split()
"""Flags of Hydra's own."""
HEAD = """Options are NAME=VALUE in any order, lists are NAME=[a,b], null is an option's default.
corpus=NAME and model=NAME choose a member, which has its own options. experiment=NAME takes a named
set of options from conf/experiment/. -m tries every combination of NAME=a,b,c. --hydra-help shows
Hydra's own flags. Tables go to stdout, logs to stderr. Exit codes: 0 done, 1 a bug of ours, 2 a
mistake explained in one line, 130 and 143 interrupted."""
IN_ASCII = {"±": "+-", "–": "-", "×": "x"}
"""How tables and messages look where the encoding lacks these."""
COLUMNS, MEANING_AT = 120, 40


def main() -> None:
    """The console command: `w2v-inf STAGE OPTIONS`."""
    sys.argv[0] = "w2v-inf"
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print("\n".join([USAGE, "", *(f"  {name:11}{s.about}" for name, s in STAGES.items())]))
    elif name == "--version":
        print(f"w2v-inf {metadata.version('w2v_inf')}")
    elif name not in STAGES:
        _fail(f"{name} is not a stage: there are {', '.join(STAGES)} (w2v-inf --help)")
    else:
        sys.argv[:2] = [f"w2v-inf {name}"]
        run_stage(name)


def run_stage(name: str) -> None:
    """Run the stage of this name with the options of the command line."""
    stage = STAGES[name]
    _print_any_character()
    if os.name == "nt":
        _fail(NO_WINDOWS)
    if {"--help", "-h"} & set(sys.argv[1:]):
        with _closed_pipe_is_an_end():
            print(describe(stage.about))
        return

    def load_and_run(config: Config) -> None:
        module = import_module(f"w2v_inf.{stage.module}")
        if signal.getsignal(signal.SIGINT) is _end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        getattr(module, stage.function)(config)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)

    run(load_and_run, stage.is_parallel)


def _end_at_once(number: int, frame: object) -> None:
    """Ctrl-C before a stage begins: nothing can be lost, and Hydra and torch would complain."""
    os._exit(130)


def run(stage: Callable[[Config], object], is_parallel: bool = False) -> None:
    """Run one stage under Hydra. Tables go to stdout, logs to stderr.

    Exit codes: 0 done, 2 a mistake that the user can mend, 130 or 143 interrupted, 1 a bug of ours
    (with its traceback).
    """
    with _closed_pipe_is_an_end():
        _run(stage, is_parallel)


@contextmanager
def _closed_pipe_is_an_end() -> Iterator[None]:
    """The reader of stdout may stop early (| head)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run(stage: Callable[[Config], object], is_parallel: bool) -> None:
    _check_flags()
    sys.argv[1:] = as_typed(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints its own account of an exception
    register()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    has_begun, num_failed = False, 0

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def compose_and_run(cfg: DictConfig) -> None:
        nonlocal has_begun, num_failed
        has_begun = True
        # Here and not above: launchers of sweeps call this in processes of their own.
        is_main = not _is_job() or os.environ["RANK"] == "0"
        level = logging.INFO if is_main else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        # Its launcher would announce every point of a sweep but the first.
        logging.getLogger("hydra").setLevel(logging.WARNING)
        try:
            with explained():
                stage(load(cfg))
        except UserError as error:  # Hydra would print an account of its own
            if not _is_sweep_in_this_process():
                _fail(str(error))
            _say(str(error))
            num_failed += 1

    if _is_job() and not is_parallel:
        _fail("this stage runs in one process: start it without torchrun")
    try:
        with _process_group():
            compose_and_run()
    except UserError as error:  # processes that did not find each other
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(explain(error, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        # Before a stage begins, only Hydra writes files: the folder of a sweep in runs_dir.
        if has_begun or not error.filename:
            raise
        _fail(str(system_error(error.filename, error, "written")))
    except Exception as error:
        # Hydra meets some options (corpus=3) with exceptions of any kind. Later ones are our bugs.
        if has_begun:
            raise
        _fail(explain(error, sys.argv[1:]))
    if num_failed:
        points = "1 point" if num_failed == 1 else f"{num_failed} points"
        _fail(f"{points} of the sweep failed, as said above; the others are done")


def _print_any_character() -> None:
    """Let no character fail for the encoding of stdout or stderr (PYTHONIOENCODING, some clusters).

    Those that the encoding lacks are written in ASCII.
    """
    codecs.register_error("w2v_inf", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="w2v_inf")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    known = "".join(IN_ASCII.get(c, c) for c in lacking)
    return known.encode("ascii", "backslashreplace").decode(), error.end


def _is_job() -> bool:
    """Whether torchrun started several processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def _process_group() -> AbstractContextManager[None]:
    """Connected to the other processes of a job."""
    if not _is_job():
        return nullcontext()
    from w2v_inf import distributed  # and with it torch, seconds that a mistake need not wait for

    return distributed.process_group()


def _check_flags() -> None:
    for argument in sys.argv[1:]:
        flag = argument.split("=")[0]
        if argument.startswith("-") and flag not in FLAGS:
            form = "options are NAME=VALUE, as in train.epochs=3 (all of them: --help)"
            _fail(f"{flag} is no flag: {form}")


def _is_sweep_in_this_process() -> bool:
    """Whether Hydra's own launcher runs the points of a sweep one after another.

    A point that diverges must not cost the rest.
    """
    hydra_config = HydraConfig.get()
    is_own_launcher = hydra_config.launcher["_target_"].endswith(".BasicLauncher")
    return hydra_config.mode is RunMode.MULTIRUN and is_own_launcher


def _say(message: str) -> None:
    rank = f" (rank {os.environ['RANK']})" if _is_job() else ""
    print(f"{os.path.basename(sys.argv[0])}{rank}: {message}", file=sys.stderr)


def _fail(message: str) -> NoReturn:
    _say(message)
    sys.exit(2)


def describe(about: str) -> str:
    """The help of a stage: what it does, and every option with its default, choices and meaning."""
    meanings, hints = _docstrings(), get_type_hints(Config)
    lines = [about, "", *textwrap.wrap(HEAD, COLUMNS)]
    for f in dataclasses.fields(Config):
        if dataclasses.is_dataclass(hints[f.name]):
            base, members = hints[f.name], MEMBERS.get(f.name, ())
            lines += ["", f"{f.name}: {meanings[base.__name__]['']}"]
            lines += _option_lines(f.name, base, meanings)
            for member in members:
                lines.append(f"  {f.name}={member.name}: {meanings[member.__name__]['']}")
                lines += _option_lines(f.name, member, meanings, base)
    return "\n".join([*lines, "", "general:", *_option_lines("", Config, meanings)])


def _docstrings() -> dict[str, dict[str, str]]:
    """For each class of config/ the docstring of each field, and its own under the empty name."""
    found: dict[str, dict[str, str]] = {}
    for kind in filter(inspect.isclass, vars(options).values()):
        if dataclasses.is_dataclass(kind):
            (node,) = ast.parse(inspect.getsource(kind)).body
            assert isinstance(node, ast.ClassDef)
            found[node.name] = {"": ast.get_docstring(node) or ""}
            for field, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found[node.name][field.target.id] = _constant(after)
    return found


def _constant(node: ast.stmt) -> str:
    """The text of a statement that is nothing but a string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def _option_lines(
    group: str, kind: Any, meanings: dict[str, dict[str, str]], base: Any = None
) -> Iterator[str]:
    """One line per option of `kind`, without those that `base` has with the same default.

    Long meanings continue on the lines below.
    """
    hints = get_type_hints(kind)
    known = {f.name: _default(f) for f in dataclasses.fields(base)} if base else {}
    for f in dataclasses.fields(kind):
        is_group = dataclasses.is_dataclass(hints[f.name])
        if f.name == "name" or is_group or known.get(f.name) == _default(f):
            continue
        texts = (meanings.get(c.__name__, {}).get(f.name) for c in kind.__mro__)
        parts = (_choices(hints[f.name]), next(filter(None, texts), ""))
        meaning = textwrap.wrap(". ".join(filter(None, parts)), COLUMNS - MEANING_AT)
        option = f"    {group}{'.' if group else ''}{f.name}={_default(f)}"
        if len(option) < MEANING_AT and meaning:
            option = f"{option:{MEANING_AT}}{meaning.pop(0)}"
        yield option
        yield from (" " * MEANING_AT + line for line in meaning)


def _choices(hint: Any) -> str:
    is_choice = isinstance(hint, type) and issubclass(hint, Enum)
    return " | ".join(hint.__members__) if is_choice else ""


def _default(f: Any) -> str:
    value = f.default_factory() if f.default is dataclasses.MISSING else f.default
    if value is None or value == MISSING:
        return "null" if value is None else ""
    return str(value)
