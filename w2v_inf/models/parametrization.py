"""abc-parametrizations: how initial sizes and learning rates depend on the width n.

TP4 Definition 3.1: W_l = n^-a_l w_l with w_l ~ N(0, n^-2b_l), trained with learning rate lr n^-c.
"""

from w2v_inf.config import Parametrization

ABC: dict[Parametrization, tuple[float, float, float, float, float]] = {
    Parametrization.sp: (0, 0, 0, 0.5, 0),
    Parametrization.ntp: (0, 0, 0.5, 0, 0),
    Parametrization.mup: (-0.5, 0.5, 0.5, 0.5, 0),
    Parametrization.mfp: (0, 0, 1, 0, -1),
}
"""Exponents (a1, b1, a2, b2, c) for one hidden layer (TP4 Table 1)."""


def finite_scales(
    exponents: tuple[float, float, float, float, float], width: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Initial standard deviations and learning-rate factors of (u, w).

    Training w_l moves W_l = n^-a_l w_l by n^(-2 a_l - c) lr times the gradient in W_l. We hold
    u = W_1 / sqrt(n) and w = sqrt(n) W_2, which changes no logit. Under muP the rows of u then
    have length about 1, and neither learning rate has a width factor.
    """
    a1, b1, a2, b2, c = exponents
    stds = (width ** (-a1 - b1 - 0.5), width ** (-a2 - b2 + 0.5))
    lr_factors = (width ** (-2 * a1 - c - 1.0), width ** (-2 * a2 - c + 1.0))
    return stds, lr_factors
