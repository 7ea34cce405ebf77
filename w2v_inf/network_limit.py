"""The infinite-width limits of a linear torch network, as torch networks (docs/limit-of.md).

Decisions:
- The limit has the modules of the network, with other sizes. It trains like any nn.Module.
- A weight's scale s is n^1/2 times the root mean square of its entries: the network is the member
  of width n of a family whose initial variances are s^2 / n. Rows of zeros stay zero.
- The limit holds for vectors that were drawn independently. A trained network, equal entries or a
  mean would give a wrong limit in silence, so they are refused where chance cannot explain them.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_inf.errors import UserError, check
from w2v_inf.linear_network import (
    Dimension,
    Hidden,
    Network,
    NtkLinear,
    Scale,
    Table,
    read_network,
)
from w2v_inf.models.device import free_bytes

PARAMETRIZATIONS = ("mup", "ntk")
IMPROBABLE = 15.0
"""Minus the natural logarithm of a probability that is never met by chance: 3e-7."""
VECTORS_AT_ONCE = 1024
GIB = 2**30


class NetworkLimit(nn.Module):
    """An infinite-width limit, trained or not: `network` has one unit per initial vector."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)

    def sample(self, width: int, generator: torch.Generator | None = None) -> nn.Module:
        """A finite network with this limit: n^-1/2 Omega W, with standard normal Omega [n, N].

        It has the modules of the network that was given to `limit_of`. Drawn from an untrained
        limit it is a random initialisation. From a trained one it has learned what the limit has.
        The sample of an NTK limit has a Scale of n^-1/2 before its output layers, and its own
        initial outputs.

        Args:
          width: n, of each hidden layer.
          generator: on the CPU; torch's own if None.
        Raises: UserError unless width is at least 1.
        """
        is_width = isinstance(width, int) and not isinstance(width, bool) and width >= 1
        check("sample: width", width, is_width, "a whole number of at least 1")
        drawn = copy.deepcopy(self.network)
        drawn.zero_grad(set_to_none=True)
        network = read_network(drawn)
        maps = {d: _draw_map(hidden, width, generator) for d, hidden in network.hidden.items()}
        for dimension, hidden in network.hidden.items():
            _sample_hidden(drawn, hidden, maps[dimension], width)
        for layer in network.between:
            left, right = maps[layer.target.find()], maps[layer.source.find()]
            layer.set_weight(left @ layer.module.weight.detach() @ right.T)
        return drawn


def limit_of(model: nn.Module, parametrization: str = "mup") -> NetworkLimit:
    """The untrained infinite-width limit of an untrained network of linear layers.

    TP4 Corollary 6.2, and docs/limit-of.md for its proof and scope. Under muP initial variances
    fall as 1/n and learning rates are constant. Each initial vector of a hidden layer (a column of
    the weight before it, its bias, a row of the weight after it or of an embedding) becomes a
    unit. The limit trains with SGD, momentum, weight decay, clipping by norm, any schedule and any
    loss of the outputs. Adam and others that treat entries one by one have another limit.

    Args:
      model: a tree of nn.Sequential, nn.Linear, nn.Embedding, nn.EmbeddingBag (mean or sum),
        nn.Identity, `Scale` and `Sum`. It stays as it is. Layers between two hidden layers must be
        zero.
      parametrization: "mup" or "ntk". The NTK limit keeps the initial outputs of `model`, and
        takes no layers between hidden layers.
    Returns: the limit, with the dtypes and devices of `model`.
    Raises: UserError for any other network; it names the layer.
    Cost: width N, the number of initial vectors that are not zero: V + d_out for an embedding of V
      words. O(N^2 n) FLOP for n, the width of `model`.

    Example: limit_of(nn.Sequential(nn.Linear(5, 64), nn.Linear(64, 3))) has width 5 + 1 + 3.
    """
    check(
        "limit_of: parametrization",
        parametrization,
        parametrization in PARAMETRIZATIONS,
        " or ".join(PARAMETRIZATIONS),
    )
    check("limit_of: model", type(model).__name__, isinstance(model, nn.Module), "an nn.Module")
    if any(isinstance(module, NetworkLimit | NtkLinear) for module in model.modules()):
        raise UserError("limit_of: model is a limit itself: give the network that it came from")
    read_network(model)  # refuses what deepcopy could not take
    limit = copy.deepcopy(model)
    limit.zero_grad(set_to_none=True)
    network = read_network(limit)
    for layer in network.between:
        if parametrization == "ntk" or layer.module.weight.any():
            raise UserError(_refusal_of_depth(layer.label, parametrization))
    sizes = {dimension: _count_units(hidden) for dimension, hidden in network.hidden.items()}
    _check_memory(network, sizes)
    for hidden in network.hidden.values():
        for table in hidden.tables:
            _check_lengths(table)
        _check_angles(hidden.tables)
        products = _products(hidden) if parametrization == "ntk" else None
        width = hidden.tables[0].rows().shape[1]
        _diagonalise(hidden)
        for table in hidden.outputs if products is not None else ():
            linear = table.layer.module
            assert isinstance(linear, nn.Linear) and products is not None
            ntk = NtkLinear(linear, products.to(linear.weight), width)
            _replace(limit, table.layer.name, ntk)
    for layer in network.between:
        shape = (sizes[layer.target.find()], sizes[layer.source.find()])
        layer.set_weight(layer.module.weight.detach().new_zeros(shape))
    return NetworkLimit(limit)


def _refusal_of_depth(label: str, parametrization: str) -> str:
    """Why a layer between two hidden layers is not supported."""
    if parametrization == "ntk":
        return f"limit_of: {label} joins two hidden layers: parametrization=ntk takes one"
    return (
        f"limit_of: {label} joins two hidden layers and is not zero, so no finite network is its "
        "limit: start it at zero, perhaps as Sum(Identity(), Linear(n, n))"
    )


def _count_units(hidden: Hidden) -> int:
    """Initial vectors of a hidden layer that are not zero.

    Raises: UserError if there are none.
    """
    num_units = sum(len(_kept_rows(table)) for table in hidden.tables)
    if not num_units:
        names = ", ".join(table.label for table in hidden.tables) or "the layers around it"
        raise UserError(f"limit_of: a hidden layer never learns, since {names} are all zero")
    return num_units


def _check_lengths(table: Table) -> None:
    """Raises: UserError if the vectors differ in length by more than chance.

    The cube root of a mean of squares is nearly normal (Wilson and Hilferty 1931).
    """
    rows = _kept_rows(table).double()
    width = rows.shape[1]
    if len(rows) < 2:
        return
    squares = rows.square().mean(1)  # [R]
    kurtosis = float((rows.pow(4).mean(1) / squares.square()).mean())
    variance = (max(kurtosis, 3.0) - 1) / width
    z = ((squares / squares.mean()).pow(1 / 3) - (1 - variance / 9)) * 3 / variance**0.5
    if float(z.abs().max()) > math.sqrt(2 * (math.log(len(rows)) + IMPROBABLE)):
        shortest, longest = (float(s.sqrt()) for s in (squares.min(), squares.max()))
        raise UserError(
            f"limit_of: the vectors of {table.label} must share one scale, their entries have root "
            f"mean squares from {shortest:.2g} to {longest:.2g}: use one per layer, and Sum"
        )


def _check_angles(tables: Sequence[Table]) -> None:
    """Raises: UserError if two vectors have an angle that independent ones never have.

    P(cosine^2 > x) is about (1 - x)^((n - 1) / 2).
    """
    rows = torch.cat([_kept_rows(table).double().cpu() for table in tables])  # [N, n]
    num_vectors, width = rows.shape
    if num_vectors < 2 or width < 2:
        return
    rows = nn.functional.normalize(rows)
    log_pairs = math.log(num_vectors * (num_vectors - 1) / 2)
    largest = math.sqrt(-math.expm1(-2 * (log_pairs + IMPROBABLE) / (width - 1)))
    for start in range(0, num_vectors, VECTORS_AT_ONCE):
        cosines = (rows[start : start + VECTORS_AT_ONCE] @ rows.T).abs()
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = 0
        if float(cosines.max()) > largest:
            first, second = divmod(int(cosines.argmax()), num_vectors)
            names = [_name_vector(tables, number) for number in (start + first, second)]
            raise UserError(
                f"limit_of: {' and '.join(names)} have cosine {float(cosines.max()):.2g}: initial "
                "vectors must be drawn independently, with mean 0; give the untrained network"
            )


def _kept_rows(table: Table) -> Tensor:
    """The vectors that are not zero."""
    rows = table.rows()
    return rows[rows.any(1)]


def _name_vector(tables: Sequence[Table], number: int) -> str:
    """A vector's table and its index there, of all vectors that are not zero."""
    for table in tables:
        kept = table.rows().any(1).nonzero()[:, 0]
        if number < len(kept):
            return f"vector {int(kept[number])} of {table.label}"
        number -= len(kept)
    raise AssertionError(number)


def _check_memory(network: Network, sizes: dict[Dimension, int]) -> None:
    """Raises: UserError if the weights of the limit do not fit into the free memory."""
    tables = [(table.rows(), sizes[d]) for d, h in network.hidden.items() for table in h.tables]
    needed = sum(len(rows) * size * rows.element_size() for rows, size in tables)
    for layer in network.between:
        entries = sizes[layer.source.find()] * sizes[layer.target.find()]
        needed += entries * layer.module.weight.element_size()
    device = tables[0][0].device
    free = free_bytes(device)
    if needed > free:
        raise UserError(
            f"limit_of: {sum(sizes.values()):,} hidden units, one per initial vector, need "
            f"{needed / GIB:.1f} GiB, {device} has {free / GIB:.1f} free: take fewer inputs or "
            "outputs"
        )


def _diagonalise(hidden: Hidden) -> None:
    """Give each initial vector its own unit, times the scale of its table; in place."""
    kept = [table.rows().any(1) for table in hidden.tables]
    num_units, first = sum(int(k.sum()) for k in kept), 0
    for table, k in zip(hidden.tables, kept, strict=True):
        rows, last = table.rows().new_zeros(len(k), num_units), first + int(k.sum())
        rows[k, torch.arange(first, last, device=k.device)] = _scale(table)
        table.set_rows(rows)
        first = last


def _scale(table: Table) -> float:
    """Root mean square length of the vectors that are not zero; 0 without one."""
    rows = _kept_rows(table).double()
    return float(rows.square().sum(1).mean().sqrt()) if len(rows) else 0.0


def _products(hidden: Hidden) -> Tensor:
    """Inner products of the outputs' initial vectors with the inputs', of length 1; [N - k, k]."""
    left, right = (
        torch.cat([_kept_rows(table).double() / (_scale(table) or 1.0) for table in tables])
        for tables in (hidden.outputs, hidden.inputs)
    )
    return left @ right.T


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module at the place `name` of a tree."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _draw_map(hidden: Hidden, width: int, generator: torch.Generator | None) -> Tensor:
    """n^-1/2 Omega, [n, N]."""
    like = hidden.tables[0].rows()
    omega = torch.randn(width, like.shape[1], generator=generator, dtype=torch.float64)
    return (omega / width**0.5).to(like)


def _sample_hidden(model: nn.Module, hidden: Hidden, omega: Tensor, width: int) -> None:
    """Replace the units by `omega`'s, in place.

    In the NTK limit, initial vectors grow as n^1/2 and learned parts stay; see docs/limit-of.md.
    """
    readers = [table.layer.module for table in hidden.outputs]
    ntk = next((module for module in readers if isinstance(module, NtkLinear)), None)
    growth = 1.0 if ntk is None else (width / ntk.width) ** 0.5
    k = 0 if ntk is None else ntk.products.shape[1]
    for tables, own in ((hidden.inputs, slice(0, k)), (hidden.outputs, slice(k, None))):
        factors = omega.new_ones(omega.shape[1])
        factors[own] = growth
        for table in tables:
            table.set_rows(table.rows() @ (factors[:, None] * omega.T))
    if ntk is None:
        return
    for table in hidden.outputs:
        module = table.layer.module
        assert isinstance(module, NtkLinear)
        d_out, bias = len(module.weight), module.bias
        linear = nn.Linear(1, d_out, bias=bias is not None, device=module.weight.device)
        linear.weight, linear.bias, linear.in_features = module.weight, bias, width
        _replace(model, table.layer.name, nn.Sequential(Scale(1 / growth), linear))
