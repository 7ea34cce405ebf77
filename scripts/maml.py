"""The same as `w2v-inf maml`."""

from w2v_inf.cli import run_stage

if __name__ == "__main__":
    run_stage("maml")
