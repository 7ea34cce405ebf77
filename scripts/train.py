"""Stage 2: train one model on a prepared corpus, evaluating after each epoch. Options: w2v_inf/config.py."""

from w2v_inf.cli import run
from w2v_inf.training.train import train

if __name__ == "__main__":
    run(train, sharded=True)
