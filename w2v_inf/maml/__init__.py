"""First-order MAML at infinite width, the second experiment of TP4 (Section 7)."""
