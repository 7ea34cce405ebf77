"""Wrong options are explained in one line: the option, what is allowed, what came, what to do."""

import pytest

from w2v_inf.compose import compose_config
from w2v_inf.errors import UserError

NO_VALUE = "model.width has no value: write model.width"
IS_SWEEP = "several values need a sweep: add -m"
WHERE = " (options: --help, or w2v_inf/config/)"
MEMBERS = {
    "corpus": "fil9, file, planted, sample, text8, wikipedia",
    "model": "finite, mup_limit, ntk_limit",
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("plot.runs=runs/x", "plot.runs is a list: write plot.runs=[runs/x]"),
        ("plot.runs=a,b", "plot.runs is a list: write plot.runs=[a,b]"),
        ("reproduce.widths=64", "reproduce.widths is a list: write reproduce.widths=[64]"),
        ("reproduce.widths=[a]", "reproduce.widths must be a list of whole numbers, got [a]"),
        ("model.width=16,64", f"model.width=16,64: {IS_SWEEP}"),
        ("model=finite,mup_limit", f"model=finite,mup_limit: {IS_SWEEP}"),
        ("model.width 16", f"{NO_VALUE}=16, without blanks"),
        ("model.width = 16 seed=1", f"{NO_VALUE}=16, without blanks"),
        ("model.width =16", f"{NO_VALUE}=16, without blanks"),
        ("model.width seed=1", f"{NO_VALUE}=VALUE, without blanks"),
        ("seed=1 model.width", f"{NO_VALUE}=VALUE, without blanks"),
        ("model.width=big", "model.width must be a whole number, got big"),
        ("model.width=", "model.width must be a whole number, got nothing"),
        ("model.width=null", "model.width must be a whole number, got null"),
        ("train.epochs=2.5", "train.epochs must be a whole number, got 2.5"),
        ("train.lr=fast", "train.lr must be a number, or null, got fast"),
        ("run_dir=null", "run_dir must be a text, got null"),
        ("train.resume=no", "train.resume must be auto or never, got no"),
        ("device=gpu", "device must be auto, cpu or cuda, got gpu"),
        ("train=3", "train is a group of options: write train.NAME=VALUE"),
        (
            "experiment=vectors model=mup_limit",
            "experiment=vectors sets model.width, which model=mup_limit does not have: leave out "
            "the experiment and write its other options",
        ),
        ("corpus=3", "corpus, model and experiment take a name, got int: for instance corpus="),
        (
            "corpus=planed",
            f"corpus=planed does not exist: did you mean planted? There are {MEMBERS['corpus']}",
        ),
        (
            "model=Finite",
            f"model=Finite does not exist: did you mean finite? There are {MEMBERS['model']}",
        ),
        ("model=nix", f"model=nix does not exist. There are {MEMBERS['model']}"),
        (
            "corpus=planted corpus.path=text.txt",
            "corpus.path is not an option of corpus=planted: for your own text add corpus=file",
        ),
        (
            "corpus.path=text.txt",
            "corpus.path is not an option of corpus=sample: for your own text add corpus=file",
        ),
        (
            "+corpus.path=text.txt",
            "corpus.path is not an option of corpus=sample: for your own text add corpus=file",
        ),
        (
            "model=ntk_limit model.width=64",
            "model.width is not an option of model=ntk_limit: it is one of model=finite",
        ),
        (
            "model.widht=9",
            "model.widht is not an option: did you mean model.width? There are output_init_scale, "
            f"width, parametrization, exponents{WHERE}",
        ),
        ("lr=0.2", "lr is not an option: did you mean train.lr? There are corpus, stream, model, "),
        ("train.foo=1", "train.foo is not an option. There are epochs, lr, weight_decay, "),
        (
            "hydra.run.dir=a=b",
            "hydra.run.dir=a=b cannot be read: write NAME=VALUE, and quote special characters: "
            "'corpus.path=\"my text (1).txt\"'",
        ),
        ("hydra.nix=1", "Could not override 'hydra.nix': Key 'nix' not in 'HydraConf'"),
        ("hydra.mode=9", "Error merging override hydra.mode=9: Invalid value '9', expected one of"),
        ("hydra/launcher=nix", "hydra/launcher=nix does not exist. There are basic"),
    ],
)
def test_a_wrong_option_is_explained(options: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config(*options.split())
    said = str(caught.value)
    assert said.startswith(message) and "\n" not in said
