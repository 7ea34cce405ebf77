"""From command lines and files to a `Config`, and back.

Decisions:
- The schema of each member of `corpus` and `model` is registered with Hydra. conf/corpus/ and
  conf/model/ hold the files that a user chooses by name.
- `load` rejects keys that no dataclass declares. Hydra would accept `+model.widht=9`, and nothing
  would read it.
- An old option name ends in one line that gives the new one. Saved options of old runs are
  translated, so that finished runs can still be read.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from w2v_inf.config import CONF, MEMBERS, Config
from w2v_inf.errors import UserError
from w2v_inf.mistakes import RENAMED_OPTIONS, explain, unknown_option

ZERO_WAS_DEFAULT = ("model.rank", "model.tolerance", "model.pair_table_gib", "num_threads")
"""Saved options of old runs in which 0 stands for null."""
NOT_SAVED = ("export", "plot", "reproduce")
"""Groups of later stages, which say nothing of a run."""


def register() -> None:
    """Make the schemas known to Hydra. The files of conf/corpus/ and conf/model/ refer to them."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, members in MEMBERS.items():
        for member in members:
            store.store(group=f"schema/{group}", name=member.name, node=member)


def compose_config(*overrides: str, **named: Any) -> Config:
    """The options that a command would have with these on its command line.

    Args:
      overrides: options as a shell has them, `"corpus=planted"`.
      named: the same by name, `**{"train.epochs": 2}`, `seed=1`.
    Raises: UserError for options that do not exist or are out of range.
    """
    register()
    quoted = [f"{name}={quote(value)}" for name, value in named.items()]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", overrides=[*overrides, *quoted])
    except Exception as error:  # Hydra raises exceptions of many kinds for a wrong option
        raise UserError(explain(error, overrides)) from error
    return load(composed)


def quote(value: Any) -> str:
    """A value in Hydra's grammar, in quotes if it has characters that are special there."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quote, value))}]"
    if value is None:
        return "null"
    text = str(value)
    if re.fullmatch(r"[\w.+/-]+", text, re.ASCII):
        return text
    # Hydra reads a backslash as an escape only before a quotation mark.
    escaped = re.sub(r'(\\*)"', r"\1\1\"", re.sub(r"(\\+)$", r"\1\1", text))
    return f'"{escaped}"'


def load(cfg: DictConfig) -> Config:
    """Turn Hydra's config into dataclasses, which check their ranges.

    Raises: UserError for a key that no dataclass declares and for values out of range.
    """
    try:
        config = OmegaConf.to_object(cfg)
        OmegaConf.structured(config)  # an interpolation may have put in a value of another type
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        message = str(cause if isinstance(cause, UserError) else error).splitlines()[0]
        raise UserError(message) from error
    assert isinstance(config, Config)
    _reject_undeclared(config, "")
    return config


def save(config: Config, path: Path) -> None:
    """Write the options of a run as YAML, without those of later stages."""
    resolved = OmegaConf.structured(config)
    kept = {name: resolved[name] for name in resolved if name not in NOT_SAVED}
    OmegaConf.save(kept, path)


def read(path: Path) -> Config:
    """Options as `save` wrote them, now or in an older version.

    Raises: UserError for a file that does not hold such options.
    """
    try:
        saved: Any = _translate(OmegaConf.load(path))
        schema = OmegaConf.structured(Config)
        for group, members in MEMBERS.items():
            chosen = {member.name: member for member in members}[saved[group]["name"]]
            schema[group] = OmegaConf.structured(chosen)
        merged = OmegaConf.merge(schema, saved)
        assert isinstance(merged, DictConfig)
        return load(merged)
    except (
        OSError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        YAMLError,
        OmegaConfBaseException,
        UserError,
    ) as error:
        reason = str(error).splitlines()[0]
        message = f"{path} does not hold the options of a run ({reason}): train again"
        raise UserError(message) from error


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
        if dataclasses.is_dataclass(child):
            _reject_undeclared(child, f"{prefix}{name}.")
