"""Atomic neural networks: one feed-forward net per element, all weights in one flat vector."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from mpnnp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mpnnp.config import Net

ACTIVATIONS = (
    "identity",
    "tanh",
    "logistic",
    "softplus",
    "relu",
    "gaussian",
    "cos",
    "exp",
    "harmonic",
    "rev-logistic",
)
MOST_WEIGHTS = 100_000_000  # more than fit into memory
LETTERS = "ltsprgcehS"  # the same in n2p2's and RuNNer's files


class Topology(NamedTuple):
    """The nets as kernels take them."""

    n_layer: np.ndarray  # (n_element,) int64 layers of weights, the output layer included
    size: np.ndarray  # (n_element, max_layer+1) int64 nodes: inputs, hidden layers, 1
    activation: np.ndarray  # (n_element, max_layer) int64, see ACTIVATIONS; the output layer is 0
    start: np.ndarray  # (n_element+1,) int64 offsets of the elements' weights in w


class Segment(NamedTuple):
    """One layer in the flat vector: W (n_in, n_out) in C order from `offset` on, then b (n_out,)."""

    offset: int
    n_in: int
    n_out: int
    element: int
    layer: int


class Network:
    """Nets of all elements.

    sizes        one tuple per element: (inputs, hidden..., 1)
    activations  one tuple of names per element: of each layer, the output ("identity") included
    Weights (n_weight,): elements in turn; layer by layer; source node by source node the weights to each
    target node; then the biases.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], activations: Sequence[Sequence[str]]):
        self.sizes = tuple(tuple(int(n) for n in size) for size in sizes)
        self.activations = tuple(tuple(names) for names in activations)
        self.segments, offset = [], 0
        start, depth = [0], max(len(size) - 1 for size in self.sizes)
        size = np.zeros((len(self.sizes), depth + 1), np.int64)
        activation = np.zeros((len(self.sizes), depth), np.int64)
        for e, (nodes, names) in enumerate(zip(self.sizes, self.activations, strict=True)):
            size[e, : len(nodes)] = nodes
            activation[e, : len(names)] = [ACTIVATIONS.index(name) for name in names]
            for layer, (n_in, n_out) in enumerate(zip(nodes, nodes[1:])):
                self.segments.append(Segment(offset, n_in, n_out, e, layer))
                offset += (n_in + 1) * n_out
            start.append(offset)
        self.n_weight = offset
        n_layer = np.array([len(nodes) - 1 for nodes in self.sizes], np.int64)
        self.topology = Topology(n_layer, size, activation, np.array(start, np.int64))

    def __repr__(self):
        return (
            f"Network({'; '.join('-'.join(map(str, size)) for size in self.sizes)}: {self.n_weight} weights)"
        )

    @classmethod
    def from_config(
        cls, config: Net, elements: Sequence[int], n_inputs: Sequence[int] | np.ndarray
    ) -> Network:
        """Network of the section [network] for elements (atomic numbers) with n_inputs functions each.

        Raises ConfigError.
        """
        sizes, activations = [], []
        symbols = [chemical_symbols[z] for z in elements]
        if stranger := next((name for name in config.elements if name not in symbols), None):
            raise ConfigError(
                f"network.elements.{stranger}: this element is not in the data ({' '.join(symbols)})"
            )
        for symbol, n_input in zip(symbols, n_inputs):
            own = config.elements.get(symbol, {})
            if unknown := sorted(set(own) - {"hidden", "activation"}):
                raise ConfigError(
                    f"network.elements.{symbol}.{unknown[0]}: unknown key; known are hidden, activation"
                )
            hidden = own.get("hidden", config.hidden)
            names = own.get("activation", config.activation)
            if not (isinstance(hidden, list) and all(type(n) is int and n > 0 for n in hidden)):
                raise ConfigError(
                    f"network.elements.{symbol}.hidden = {hidden!r}: must be a list of positive integers"
                )
            names = [names] * len(hidden) if isinstance(names, str) else names
            if (
                not isinstance(names, list)
                or len(names) != len(hidden)
                or any(name not in ACTIVATIONS for name in names)
            ):
                raise ConfigError(
                    f"network.elements.{symbol}.activation = {names!r}: "
                    f"must be one of {', '.join(ACTIVATIONS)} for each of the {len(hidden)} hidden layers"
                )
            sizes.append((int(n_input), *hidden, 1))  # (no int64, which overflows)
            activations.append((*names, "identity"))
        n_weight = sum((n_in + 1) * n_out for size in sizes for n_in, n_out in itertools.pairwise(size))
        if n_weight > MOST_WEIGHTS:
            raise ConfigError(
                f"network.hidden: nets of {n_weight:,} weights, more than {MOST_WEIGHTS:,} cannot be meant"
            )
        return cls(sizes, activations)

    def checked(self, weights: Sequence[float] | np.ndarray) -> np.ndarray:
        """The weights as an array (n_weight,) of float64. Raises DataError for what is none."""
        try:
            found = np.ascontiguousarray(weights, np.float64)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.shape != (self.n_weight,):
            raise DataError(
                f"weights of shape {np.shape(weights)}: must be ({self.n_weight},), one for each weight"
            )
        return found

    def units(self) -> np.ndarray:
        """(n_weight,) 1/n_in of the layer that a weight or bias belongs to:
        n2p2's `normalize_nodes` means weights in these units.
        """
        units = np.empty(self.n_weight)
        for s in self.segments:
            units[s.offset : s.offset + (s.n_in + 1) * s.n_out] = 1.0 / s.n_in
        return units

    def initial_weights(
        self, kind: str, rng: np.random.Generator, low: float = -1.0, high: float = 1.0
    ) -> np.ndarray:
        """Weights (n_weight,) drawn by `rng`.

        glorot         W uniform in +-sqrt(6 / (n_in + n_out)), b = 0 (Glorot and Bengio, 2010)
        nguyen-widrow  hidden: columns of length 0.7 n_out^(1/n_in), b within that length
                       (Nguyen and Widrow, 1990); output +-0.5
        uniform        all in [low, high)
        """
        w = np.zeros(self.n_weight)
        for s in self.segments:
            matrix = w[s.offset : s.offset + s.n_in * s.n_out].reshape(s.n_in, s.n_out)
            bias = w[s.offset + s.n_in * s.n_out : s.offset + (s.n_in + 1) * s.n_out]
            if kind == "uniform":
                matrix[:] = rng.uniform(low, high, matrix.shape)
                bias[:] = rng.uniform(low, high, bias.shape)
            elif kind == "glorot":
                limit = np.sqrt(6.0 / (s.n_in + s.n_out))
                matrix[:] = rng.uniform(-limit, limit, matrix.shape)
            elif kind == "nguyen-widrow":
                output = s.layer == len(self.sizes[s.element]) - 2
                length = 0.5 if output else 0.7 * s.n_out ** (1.0 / s.n_in)
                matrix[:] = rng.uniform(-1.0, 1.0, matrix.shape)
                if output:
                    matrix *= length
                else:
                    matrix *= length / np.linalg.norm(matrix, axis=0)
                bias[:] = rng.uniform(-length, length, bias.shape)
            else:
                raise ValueError(f"no initializer '{kind}'")
        return w
