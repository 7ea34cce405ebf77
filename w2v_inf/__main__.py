"""`python -m w2v_inf STAGE OPTIONS`, the same as `w2v-inf STAGE OPTIONS`."""

from w2v_inf.cli import main

if __name__ == "__main__":
    main()
