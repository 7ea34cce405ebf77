"""The theory of the infinite-width limits: each module derives one claim and checks it."""

from w2v_inf.theory.linear_limit import train_limit, two_scalar_limit
from w2v_inf.theory.page import theory

__all__ = ["theory", "train_limit", "two_scalar_limit"]
