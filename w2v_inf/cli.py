"""How every script starts and ends: Hydra composes, the library works, a user's mistake is one line and exit code 2."""

import ast
import dataclasses
import inspect
import logging
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig
from omegaconf.errors import OmegaConfBaseException

from w2v_inf import config, distributed
from w2v_inf import config as options
from w2v_inf.config import PROJECT_ROOT, Config, load, register
from w2v_inf.errors import UserError

FLAGS = """-m --multirun -r --run -c --cfg -p --package -i --info -cp --config-path -cn --config-name -cd --config-dir
-sc --shell-completion --resolve --version --hydra-help --experimental-rerun""".split()
"""What Hydra takes beside options."""


def run(stage: Callable[[Config], object], sharded: bool = False) -> None:
    """Run one stage under Hydra; tables go to stdout, logs to stderr. `sharded`: torchrun may start several ranks of it.

    Exit codes: 0 done, 2 a mistake the user can mend, 130 / 143 interrupted, 1 our own bug (with its traceback).
    """
    try:
        _run(stage, sharded)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run(stage: Callable[[Config], object], sharded: bool) -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(describe(sys.modules["__main__"].__doc__ or ""))
        return
    for argument in sys.argv[1:]:
        if argument.startswith("-") and argument.split("=")[0] not in FLAGS:
            _fail(
                f"{argument.split('=')[0]} is no flag: options are NAME=VALUE, as in train.epochs=3 (all of them: --help)"
            )
    # Without this Hydra prints its own account of an exception and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    has_begun, num_failed = False, 0

    @hydra.main(version_base="1.3", config_path=str(PROJECT_ROOT / "conf"), config_name="config")
    def main(cfg: DictConfig) -> None:
        nonlocal has_begun, num_failed
        has_begun = True
        # Here and not above: launchers of sweeps call this in processes of their own.
        logging.basicConfig(
            level=logging.INFO if distributed.is_main_process() else logging.WARNING,
            format="%(message)s",
            stream=sys.stderr,
        )
        try:
            stage(load(cfg))
        except UserError as error:
            # Left to Hydra, it would first print an account of its own.
            if not _is_sweep_in_this_process():
                _fail(str(error))
            _say(str(error))
            num_failed += 1

    if distributed.is_launched() and not sharded:
        _fail("this stage runs in one process: start it without torchrun")
    try:
        with distributed.process_group():
            main()
        if num_failed:
            _fail(
                f"{num_failed} {'point' if num_failed == 1 else 'points'} of the sweep failed, as said above; the others are done"
            )
    except UserError as error:  # ranks that did not find each other
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(one_line(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        # Our own files are guarded where they are written; this is Hydra's sweep folder.
        _fail(
            f"{error.filename or 'a file'} cannot be written or read ({error.strerror}): choose another runs_dir"
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # Hydra meets some options (corpus=3) with whatever it stumbles over. Behind it, such an error is our own bug.
        if has_begun:
            raise
        _fail(one_line(error))


def _is_sweep_in_this_process() -> bool:
    """Whether Hydra's own launcher runs the points of a sweep one after another: one that diverges must not cost the rest."""
    hydra_config = HydraConfig.get()
    return hydra_config.mode is RunMode.MULTIRUN and hydra_config.launcher["_target_"].endswith(
        ".BasicLauncher"
    )


def _say(message: str) -> None:
    rank = f" (rank {os.environ['RANK']})" if distributed.is_launched() else ""
    print(f"{Path(sys.argv[0]).name}{rank}: {message}", file=sys.stderr)


def _fail(message: str) -> NoReturn:
    _say(message)
    sys.exit(2)


def one_line(error: Exception) -> str:
    """What Hydra or OmegaConf refuses, with its reason, less their tables of internals."""
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        lines = str(cause).splitlines() or [""]
        until = next(
            (i for i, line in enumerate(lines) if line.strip().startswith(_INTERNALS)), len(lines)
        )
        messages.append(" ".join(line.strip() for line in lines[:until] if line.strip()))
        cause = cause.__cause__
    text = ": ".join(dict.fromkeys(message.rstrip(".") for message in messages if message))
    return f"{text}{_allowed(text)} (options: w2v_inf/config.py, or --help)"


def _allowed(text: str) -> str:
    """The names that there are, the likeliest first, where one was not found in a group."""
    found = re.search(r"Key '(.+?)' not in '(\w+)'", text)
    group = getattr(config, found[2], None) if found else None
    if not found or not is_dataclass(group):
        return ""
    names = [f.name for f in fields(group)]
    likely = get_close_matches(found[1], names, 1)
    return (f": did you mean {likely[0]}?" if likely else ".") + f" There are {', '.join(names)}"


_INTERNALS = (
    "full_key:",
    "object_type=",
    "reference_type=",
    "Set the environment",
    "To append to your config",
    "Config search path",
    "See https:",
)
COLUMNS, MEANING_AT = 120, 40
HEAD = """Options are given as NAME=VALUE, in any order, lists as NAME=[a,b]. corpus=NAME and model=NAME choose a member, which has its own
options. experiment=NAME takes a named set of options from conf/experiment/. -m tries every combination of NAME=a,b,c; --hydra-help has
Hydra's own flags. Tables go to stdout, logs to stderr. Exit codes: 0 done, 2 a mistake, said in one line, 130 and 143 interrupted."""
CHOSEN = {
    "corpus": (options.CorpusConfig, options.CORPORA),
    "model": (options.ModelConfig, options.MODELS),
}


def describe(script: str) -> str:
    """The help of a script whose docstring is `script`."""
    documented, hints = _documentation(), get_type_hints(Config)
    lines = [script.strip(), "", *textwrap.wrap(HEAD, COLUMNS)]
    for f in dataclasses.fields(Config):
        if dataclasses.is_dataclass(hints[f.name]):
            kind, members = CHOSEN.get(f.name, (hints[f.name], ()))
            lines += [
                "",
                f"{f.name}: {documented[kind.__name__]['']}",
                *_explain(f.name, kind, documented),
            ]
            for member in members:
                lines.append(f"  {f.name}={member.name}: {documented[member.__name__]['']}")
                lines += _explain(f.name, member, documented, kind)
    return "\n".join([*lines, "", "general:", *_explain("", Config, documented)])


def _documentation() -> dict[str, dict[str, str]]:
    """For each class of config.py the docstrings of its fields, and its own under the empty name."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(options)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {"": ast.get_docstring(node) or ""}
            for field, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = (
                        after.value.value
                        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                        else ""
                    )
                    found[node.name][field.target.id] = " ".join(str(text).split())
    return found


def _explain(
    group: str, kind: Any, documented: dict[str, dict[str, str]], base: Any = None
) -> Iterator[str]:
    """A line an option of `kind`, less those that `base` has with the same default; long meanings go on below."""
    hints = get_type_hints(kind)
    known = {f.name: _default(f) for f in dataclasses.fields(base)} if base else {}
    for f in dataclasses.fields(kind):
        if (
            f.name == "name"
            or dataclasses.is_dataclass(hints[f.name])
            or known.get(f.name) == _default(f)
        ):
            continue
        meaning = next(
            (text for c in kind.__mro__ if (text := documented.get(c.__name__, {}).get(f.name))), ""
        )
        choices = (
            " | ".join(hints[f.name].__members__)
            if isinstance(hints[f.name], type) and issubclass(hints[f.name], Enum)
            else ""
        )
        first, *more = textwrap.wrap(
            ". ".join(part for part in (choices, meaning) if part), COLUMNS - MEANING_AT
        ) or [""]
        option = f"    {group}{'.' if group else ''}{f.name}={_default(f)}"
        if len(option) < MEANING_AT:
            yield f"{option:{MEANING_AT}}{first}".rstrip()
        else:
            more = [first, *more]
            yield option
        yield from (" " * MEANING_AT + line for line in more)


def _default(f: Any) -> str:
    value = f.default_factory() if f.default is dataclasses.MISSING else f.default
    return str(value.value if isinstance(value, Enum) else "" if value == MISSING else value)
