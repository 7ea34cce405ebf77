"""Stage 3: evaluate a finished run (run_dir=FOLDER), also other embeddings or against a limit's run."""

from w2v_inf.cli import run
from w2v_inf.evaluation.evaluate import evaluate

if __name__ == "__main__":
    run(evaluate, sharded=True)
