"""From command lines and files to a `Config`, and back.

Decisions:
- The schema of each member of `corpus` and `model` is registered with Hydra. conf/corpus/ and
  conf/model/ hold the files that a user chooses by name.
- Values from Python are set after Hydra has composed the rest, so no grammar reads them.
- `load` rejects keys that no dataclass declares. Hydra would accept `+model.widht=9`, and nothing
  would read it.
- An old option name ends in one line that gives the new one. Saved options of old runs are
  translated, so that finished runs can still be read.
"""

import copy
import dataclasses
import os
import textwrap
import threading
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from w2v_inf.config import CONF, MEMBERS, Config
from w2v_inf.errors import UserError, check
from w2v_inf.files import read_text
from w2v_inf.mistakes import (
    LITERAL,
    RENAMED_OPTIONS,
    explain,
    type_of,
    unknown_option,
    wrong_value,
)
from w2v_inf.overrides import as_typed, escape, quote

ZERO_WAS_DEFAULT = ("model.rank", "model.tolerance", "model.pair_table_gib", "num_threads")
"""Saved options of old runs in which 0 stands for null."""
NOT_SAVED = ("export", "baseline", "maml", "plot", "reproduce")
"""Groups of later stages, which say nothing of a run."""
SCHEMA = "w2v_inf_schema"
"""Where the schemas lie in Hydra's store, which a caller may use for his own."""
CHOSEN_BY_NAME = ("corpus", "model", "experiment")
_composing = threading.Lock()


def register() -> None:
    """Make the schemas known to Hydra. The files of conf/corpus/ and conf/model/ refer to them."""
    store = ConfigStore.instance()
    store.store(name=SCHEMA, node=Config)
    for group, members in MEMBERS.items():
        for member in members:
            store.store(group=f"{SCHEMA}/{group}", name=member.name, node=member)


def compose_config(*overrides: str, **named: Any) -> Config:
    """The options that a command would have with these on its command line.

    Args:
      overrides: options as a shell has them, `"corpus=planted"`.
      named: the same by name, `**{"train.epochs": 2}`, `seed=1`. A text is taken as it is: nothing
        in it is special.
    Raises: UserError for options that do not exist or are out of range.
    """
    chosen = [f"{name}={quote(value)}" for name, value in named.items() if name in CHOSEN_BY_NAME]
    for word in overrides:
        check("an option", repr(word), isinstance(word, str), "a text such as 'train.epochs=2'")
    words = as_typed([*overrides, *chosen])
    try:
        cfg = _compose(words)
    except Exception as error:  # Hydra raises exceptions of many kinds for a wrong option
        raise UserError(explain(error, words)) from error
    for name, value in named.items():
        if name not in CHOSEN_BY_NAME:
            _set(cfg, name, value)
    return load(cfg)


def _compose(words: list[str]) -> DictConfig:
    """What Hydra's `compose` gives, without Hydra's global state: a caller may be using that.

    One thread at a time, because Hydra's parser is not made for several.
    """
    with _composing:
        register()
        loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
        named = [*words, "hydra.job.name=w2v_inf"]  # else the global state names the job
        cfg = loader.load_configuration("config", named, RunMode.RUN, from_shell=False)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def _set(cfg: DictConfig, name: str, value: Any) -> None:
    """Set one option to a value from Python.

    Raises: UserError if there is no such option, or it has values of another type.
    """
    kind = type_of(name)
    group, _, leaf = name.rpartition(".")
    node = cfg if not group else cfg.get(group) if type_of(group) else None
    if kind is None or node is None or leaf not in node:
        raise UserError(unknown_option(name, OmegaConf.get_type(node) if node else Config))
    plain = _plain(value)
    texts = plain if kind == list[str] and isinstance(plain, list) else [plain]
    is_text = kind not in (str, list[str]) or all(isinstance(text, str) for text in texts)
    is_group, is_huge = is_dataclass(kind), isinstance(plain, int) and abs(plain) >= 2**64
    try:
        if not is_text or is_group or is_huge or plain == MISSING:
            raise TypeError
        node[leaf] = plain
    except Exception as error:  # OmegaConf calls int(), float(), str() on objects of any kind
        shown = "a number that is too large" if is_huge else textwrap.shorten(repr(value), 80)
        raise UserError(wrong_value(name, shown)) from error


def _plain(value: Any) -> Any:
    """A value from Python as numbers, texts and lists; texts without interpolations."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hasattr(value, "tolist"):  # numpy and torch
        value = value.tolist()
    if isinstance(value, str) and not isinstance(value, Enum):
        return escape(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def search_path() -> list[str]:
    """Where Hydra found the options of this command: flags that tell a child process the same."""
    config = HydraConfig.get()
    words = [word for word in config.overrides.hydra if word.startswith("hydra.searchpath=")]
    flags = {"command-line": "--config-dir", "main": "--config-path"}
    for source in config.runtime.config_sources:
        flag = flags.get(source.provider)
        if flag and Path(source.path) != CONF:
            words += [flag, str(Path(source.path).absolute())]
    if config.job.config_name != "config":
        words += ["--config-name", config.job.config_name]
    return words


def load(cfg: DictConfig) -> Config:
    """Turn Hydra's config into dataclasses, which check their ranges.

    Raises: UserError for a key that no dataclass declares and for values out of range.
    """
    try:
        config = OmegaConf.to_object(cfg)
        # An interpolation may have put in a value of another type.
        OmegaConf.structured(_escaped(config))
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        message = str(cause if isinstance(cause, UserError) else error).splitlines()[0]
        is_interpolation = isinstance(error, InterpolationResolutionError)
        raise UserError(message + (f" ({LITERAL})" if is_interpolation else "")) from error
    assert isinstance(config, Config)
    _reject_undeclared(config, "")
    return config


def save(config: Config, path: Path) -> None:
    """Write the options of a run as YAML, without those of later stages."""
    options = OmegaConf.structured(_escaped(config))
    kept = [name for name in options if name not in NOT_SAVED]
    OmegaConf.save(OmegaConf.masked_copy(options, kept), path)


def read(path: Path) -> Config:
    """Options as `save` wrote them, now or in an older version.

    Raises: UserError for a file that cannot be read, or does not hold such options.
    """
    text = read_text(path)
    try:
        saved: Any = _translate(OmegaConf.create(text))
        schema = OmegaConf.structured(Config)
        for group, members in MEMBERS.items():
            chosen = {member.name: member for member in members}[saved[group]["name"]]
            schema[group] = OmegaConf.structured(chosen)
        merged = OmegaConf.merge(schema, saved)
        assert isinstance(merged, DictConfig)
        return load(merged)
    except (KeyError, TypeError, YAMLError, OmegaConfBaseException, UserError) as error:
        reason = str(error).splitlines()[0]
        advice = "read the run with the version that wrote it, or train again in another folder"
        message = f"{path} does not hold the options of a run ({reason}): {advice}"
        raise UserError(message) from error


def _escaped(node: Any) -> Any:
    """A copy of the options in which OmegaConf finds no interpolation."""
    if is_dataclass(node):
        copied = copy.copy(node)
        for name, value in vars(node).items():
            setattr(copied, name, _escaped(value))
        return copied
    return _plain(node)


def _translate(saved: Any) -> Any:
    """Saved options of an older version with today's names and null.

    Before there was `stream.interleave`, batches followed the order of the text.
    """
    for old, new in RENAMED_OPTIONS.items():
        group, name = old.split(".")
        if group in saved and name in saved[group]:
            saved[group][new.partition(".")[2]] = saved[group].pop(name)
    if OmegaConf.select(saved, "stream.interleave") is None:
        OmegaConf.update(saved, "stream.interleave", 1, force_add=True)
    for option in ZERO_WAS_DEFAULT:
        if OmegaConf.select(saved, option) == 0:
            OmegaConf.update(saved, option, None)
    return saved


def _reject_undeclared(node: Any, prefix: str) -> None:
    names = [f.name for f in dataclasses.fields(node)]
    for key in vars(node):
        if key not in names:
            raise UserError(unknown_option(prefix + key, type(node)))
    for name in names:
        child = getattr(node, name)
        if is_dataclass(child):
            _reject_undeclared(child, f"{prefix}{name}.")
