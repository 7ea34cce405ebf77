"""`~` in every path; names that no file can have end in one line."""

import dataclasses
from pathlib import Path

import pytest

from w2v_inf.compose import compose_config
from w2v_inf.config import CORPORA, Config, TextFile
from w2v_inf.errors import UserError

PATHS = """run_dir runs_dir data_dir export.out evaluate.vectors evaluate.limit_run evaluate.out
plot.out""".split()


def test_home_is_expanded_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in PATHS:
        for config in (compose_config(f"{name}=~/x"), compose_config(**{name: Path("~/x")})):
            group, _, leaf = name.rpartition(".")
            assert getattr(getattr(config, group) if group else config, leaf) == "/home/me/x"
    config = compose_config("corpus=file", "corpus.path=~/x", "plot.runs=[~/a,b]")
    assert (config.corpus.path, config.plot.runs) == ("/home/me/x", ["/home/me/a", "b"])  # pyright: ignore
    assert compose_config(run_dir="./~").run_dir == "./~"


def test_every_text_option_is_a_path_or_known_to_be_none() -> None:
    """A new option that holds a path must be declared with `path_option`."""
    others = {"name", "url", "snapshot", "push"}
    default = Config(corpus=TextFile(path="x"))
    nodes = [default, *(corpus for corpus in CORPORA if corpus is not TextFile)]
    groups = [getattr(default, f.name) for f in dataclasses.fields(default)]
    for node in [*nodes, *filter(dataclasses.is_dataclass, groups)]:
        for f in dataclasses.fields(node):
            if f.type is str or f.type == "str":
                assert f.name in others or f.metadata.get("is_path"), f.name


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(UserError, match="run_dir must be a path") as caught:
        compose_config(run_dir=name)
    assert str(caught.value).isprintable()


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UserError, match="data_dir must be a path without ~ .*no home folder"):
        compose_config("data_dir=~/x")
