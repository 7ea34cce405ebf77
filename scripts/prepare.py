"""Stage 1: encode a corpus into data_dir, downloading it if need be. Options: w2v_inf/config.py."""

from w2v_inf.cli import run
from w2v_inf.corpus.prepare import prepare_stage

if __name__ == "__main__":
    run(prepare_stage)
