"""The theory of the infinite-width limits: each module derives one claim and checks it."""

from w2v_inf.theory.linear_limit import limit_of, train_limit, two_scalar_limit
from w2v_inf.theory.page import theory

__all__ = ["limit_of", "theory", "train_limit", "two_scalar_limit"]
