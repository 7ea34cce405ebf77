"""Torch networks of linear layers: `Scale` and `Sum`, and the hidden dimensions of a network.

Decisions:
- A network is a tree of modules whose computation we know: exact types, no hooks, no subclasses.
  Anything else could compute something that is not linear, so it is refused.
- The width is not a number but a place: the dimension between two layers. `Sum` makes the
  outputs of its branches one dimension. A dimension that is neither the network's input nor its
  output is hidden.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from w2v_inf.errors import UserError

SUPPORTED = "Linear, Embedding, EmbeddingBag, Identity, Sequential, and our Scale and Sum"


class Scale(nn.Module):
    """Multiplies by a fixed number, which training leaves as it is.

    Raises: UserError unless `factor` is a finite number.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        if not isinstance(factor, int | float) or not math.isfinite(factor):
            raise UserError(f"Scale: factor must be a finite number, got {factor}")
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"{self.factor:g}"


class Sum(nn.Module):
    """The sum of modules that all see the same input.

    Raises: UserError without branches, or when their outputs differ in shape.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if not branches:
            raise UserError("Sum needs at least one module: Sum(nn.Linear(3, 4), nn.Linear(3, 4))")
        for number, branch in enumerate(branches):
            self.add_module(str(number), branch)

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = [branch(x) for _, branch in _parts(self)]
        if len({output.shape for output in outputs}) > 1:
            shapes = " and ".join(str(list(output.shape)) for output in outputs)
            raise UserError(f"Sum: its branches must give one shape, got {shapes}")
        return functools.reduce(torch.add, outputs)


class NtkLinear(nn.Linear):
    """The output layer of an NTK limit; weight [d_out, N], on hidden vectors [..., N].

    The first k = `products.shape[1]` hidden units stand for the initial vectors of the input
    layers, the others for those of the output layers. Coefficients over a layer's own initial
    vectors get no gradient, since they hardly move; they still feel weight decay.

    Args:
      linear: its weight and bias become those of this layer.
      products: inner products of the initial vectors, of length 1, at finite width [N - k, k]. They
        give the initial outputs.
      width: the finite width.
    """

    products: Tensor

    def __init__(self, linear: nn.Linear, products: Tensor, width: int) -> None:
        nn.Module.__init__(self)  # nn.Linear's would draw weights
        self.weight, self.bias = linear.weight, linear.bias
        self.out_features, self.in_features = linear.weight.shape
        self.register_buffer("products", products)
        self.width = width

    def forward(self, input: Tensor) -> Tensor:
        k = self.products.shape[1]
        own, moved = input[..., :k].detach(), input[..., k:]
        initial = nn.functional.linear(own, self.products)
        learned = nn.functional.linear(own, self.weight[:, :k], self.bias)
        return learned + nn.functional.linear(moved + initial, self.weight[:, k:].detach())


LINEAR, LOOKUP = (nn.Linear, NtkLinear), (nn.Embedding, nn.EmbeddingBag)
WITHOUT_LAYER = (nn.Identity, Scale)


@dataclass(eq=False)
class Dimension:
    """A place between layers, and its size; `same_as` leads to the dimension it was found to be."""

    size: int | None = None
    takes_ids: bool = False
    same_as: "Dimension | None" = None

    def find(self) -> "Dimension":
        return self if self.same_as is None else self.same_as.find()


@dataclass(eq=False)
class Layer:
    """A Linear, Embedding or EmbeddingBag, its name in the network, and where it leads."""

    name: str
    module: nn.Linear | nn.Embedding | nn.EmbeddingBag
    source: Dimension
    target: Dimension

    @property
    def label(self) -> str:
        return f"layer {self.name} ({type(self.module).__name__})"

    def set_weight(self, weight: Tensor) -> None:
        """Replace the weight, and the sizes that the module tells."""
        self.module.weight = nn.Parameter(weight.contiguous())
        if isinstance(self.module, nn.Linear):
            self.module.out_features, self.module.in_features = weight.shape
        else:
            self.module.num_embeddings, self.module.embedding_dim = weight.shape


@dataclass(eq=False)
class Table:
    """A weight or a hidden bias as vectors of one hidden dimension, [R, n]."""

    layer: Layer
    parameter: str
    is_transposed: bool

    @property
    def label(self) -> str:
        return f"{self.layer.name}.{self.parameter}"

    def rows(self) -> Tensor:
        """The vectors, [R, n]; not a copy."""
        values = getattr(self.layer.module, self.parameter).detach()
        return values[None] if values.ndim == 1 else values.T if self.is_transposed else values

    def set_rows(self, rows: Tensor) -> None:
        """Replace the vectors by others, [R, any n]."""
        if self.parameter == "weight":
            self.layer.set_weight(rows.T if self.is_transposed else rows)
        else:
            self.layer.module.bias = nn.Parameter(rows[0].clone())


@dataclass(eq=False)
class Hidden:
    """A hidden dimension: the vectors that lead into it, and those that read it."""

    inputs: list[Table] = field(default_factory=list)
    outputs: list[Table] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return self.inputs + self.outputs


@dataclass(eq=False)
class Network:
    """What `read_network` finds: hidden dimensions, and the layers between two of them."""

    hidden: dict[Dimension, Hidden]
    between: list[Layer]


def read_network(model: nn.Module) -> Network:
    """The hidden dimensions of a network and their vectors; changes nothing.

    Raises: UserError that names the layer if a module is not supported, is used twice, has hooks,
      or does not fit to the one before; if weights are tied or frozen; without a hidden dimension.
    """
    reader = _Reader()
    output = reader.read(model, "", reader.input).find()
    reader.check_parameters()
    outside = (reader.input.find(), output)
    hidden: dict[Dimension, Hidden] = {}
    for layer in reader.layers:
        for place in (layer.source.find(), layer.target.find()):
            if place not in outside:
                hidden.setdefault(place, Hidden())
    if not hidden:
        raise UserError(
            "limit_of: the network has no hidden layer: "
            "it needs two layers in a row, as Sequential(Linear(5, 64), Linear(64, 3))"
        )
    between = []
    for layer in reader.layers:
        source, target = hidden.get(layer.source.find()), hidden.get(layer.target.find())
        if source and target:
            between.append(layer)
        elif source:
            source.outputs.append(Table(layer, "weight", False))
        elif target:
            target.inputs.append(Table(layer, "weight", isinstance(layer.module, nn.Linear)))
        if target and getattr(layer.module, "bias", None) is not None:
            target.inputs.append(Table(layer, "bias", False))
    return Network(hidden, between)


class _Reader:
    """Follows the dimensions through the tree of modules, and collects the layers."""

    def __init__(self) -> None:
        self.input = Dimension()
        self.layers: list[Layer] = []
        self.names: dict[int, str] = {}

    def read(self, module: nn.Module, name: str, source: Dimension) -> Dimension:
        """The dimension that the module leads to from `source`."""
        label = f"layer {name} ({type(module).__name__})" if name else type(module).__name__
        _check_module(module, label)
        is_container = type(module) in (nn.Sequential, Sum)
        is_layer = not is_container and type(module) not in WITHOUT_LAYER
        if is_layer and self.names.setdefault(id(module), name) != name:
            raise UserError(
                f"limit_of: {label} is layer {self.names[id(module)]} again: tied weights are not "
                "supported, give each place its own layer"
            )
        if type(module) in WITHOUT_LAYER:
            return source
        if is_layer:
            return self.read_layer(module, name, label, source)
        targets = []
        for part, child in _parts(module):
            targets.append(self.read(child, f"{name}.{part}" if name else part, source))
            if type(module) is nn.Sequential:
                source = targets[-1]
        if type(module) is nn.Sequential:
            return source
        for target in targets[1:]:
            _make_same(targets[0].find(), target.find(), label)
        return targets[0]

    def read_layer(self, module: nn.Module, name: str, label: str, source: Dimension) -> Dimension:
        """The dimension behind a layer, once it is known that the layer fits to `source`."""
        assert isinstance(module, LINEAR + LOOKUP)
        shape = module.weight.shape
        takes_ids = isinstance(module, LOOKUP)
        d_in, d_out = shape if takes_ids else (shape[1], shape[0])
        place = source.find()
        if takes_ids and place is not self.input.find():
            raise UserError(f"limit_of: {label} takes ids, so it must come first")
        if place.size is not None and place.takes_ids != takes_ids:
            raise UserError(f"limit_of: {label} and a layer beside it: one takes ids, one vectors")
        if not takes_ids and place.size not in (None, d_in):
            raise UserError(f"limit_of: {label} takes {d_in} numbers, but gets {place.size}")
        place.size, place.takes_ids = d_in, takes_ids
        self.layers.append(Layer(name, module, source, Dimension(d_out)))
        return self.layers[-1].target

    def check_parameters(self) -> None:
        """Raises: UserError if a parameter is tied, frozen, or has no real, finite values."""
        places: dict[int, str] = {}
        for layer in self.layers:
            for parameter_name, parameter in layer.module.named_parameters():
                label = f"{layer.name}.{parameter_name}"
                if not parameter.requires_grad:
                    raise UserError(
                        f"limit_of: {label} is frozen: all parameters must be trained; set "
                        "requires_grad=True"
                    )
                if parameter.is_meta or not parameter.is_floating_point():
                    kind = "meta" if parameter.is_meta else parameter.dtype
                    raise UserError(f"limit_of: {label} must hold real numbers, got {kind}")
                if not parameter.isfinite().all():
                    raise UserError(f"limit_of: {label} must be finite, it has inf or nan")
                other = places.setdefault(parameter.data_ptr(), label)
                if other != label and parameter.numel():
                    raise UserError(
                        f"limit_of: {label} is {other}: tied weights are not supported, give each "
                        "layer its own"
                    )


def _parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children in order. `named_children` leaves out one that comes again."""
    for name, child in module._modules.items():
        assert child is not None
        yield name, child


def _check_module(module: nn.Module, label: str) -> None:
    """Raises: UserError unless we know what the module computes."""
    kind = type(module)
    is_container = kind in (nn.Sequential, Sum)
    if not is_container and kind not in LINEAR + LOOKUP + WITHOUT_LAYER:
        raise UserError(f"limit_of: {label} is not supported, only {SUPPORTED}")
    hooks = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        or module._backward_pre_hooks
    )  # fmt: skip
    if hooks or "forward" in vars(module):
        raise UserError(
            f"limit_of: {label} must compute what its class says: remove its hooks and its own "
            "forward (pruning and weight_norm are hooks)"
        )
    if not is_container and module._modules:
        raise UserError(f"limit_of: {label} must not contain other modules")
    _check_own_parameters(module, label)
    if isinstance(module, LOOKUP) and module.max_norm is not None:
        raise UserError(f"limit_of: {label} must have max_norm=None, got {module.max_norm:g}")
    if isinstance(module, nn.EmbeddingBag) and module.mode == "max":
        raise UserError(f"limit_of: {label} must have mode mean or sum, got max")


def _check_own_parameters(module: nn.Module, label: str) -> None:
    """Raises: UserError unless the module has just a weight [.., ..] and perhaps a bias."""
    own = {name: p for name, p in module._parameters.items() if p is not None}
    if not isinstance(module, LINEAR + LOOKUP):
        if own:
            raise UserError(f"limit_of: {label} must have no parameter of its own: {[*own]}")
        return
    if "weight" not in own or not {*own} <= {"weight", "bias"}:
        raise UserError(f"limit_of: {label} must have a weight and perhaps a bias, got {[*own]}")
    weight, bias = own["weight"], own.get("bias")
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = " and ".join(str(list(p.shape)) for p in own.values())
        raise UserError(f"limit_of: {label}: weight and bias do not fit together: {shapes}")


def _make_same(first: Dimension, second: Dimension, label: str) -> None:
    """Record that two dimensions are one.

    Raises: UserError if their sizes differ.
    """
    if first is second:
        return
    if None not in (first.size, second.size) and (
        first.size != second.size or first.takes_ids != second.takes_ids
    ):
        raise UserError(
            f"limit_of: the branches of {label} must give one size, got {first.size} and "
            f"{second.size}"
        )
    first.size = first.size if first.size is not None else second.size
    second.same_as = first
