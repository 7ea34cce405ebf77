"""First-order MAML at finite widths, in the muP limit and with a kernel (docs/maml.md)."""

from w2v_inf.maml.command import main

if __name__ == "__main__":
    main()
