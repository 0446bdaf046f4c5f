"""The same run on many ranks: python tests/faults/many_ranks.py [1 4 8 16]

More ranks than cores, than streams, than structures for validation and than tiles of P. Batches must be
equal, weights and P equal to rounding.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import suite  # noqa: E402

from mpnnp.training.checkpoint import read_checkpoint  # noqa: E402


def labels_of(base, n_rank):
    """The labels of every update, in label order: one line per update."""
    ranks = [Path(f"{base}.{rank}").read_text().splitlines() for rank in range(n_rank)]
    return [
        " ".join([lines[0].split()[0], *(word for line in lines for word in line.split()[1:])])
        for lines in zip(*ranks, strict=True)
    ]


def compare(folder, sizes, **sections):
    """Largest relative difference of weights and of P from those on the first number of ranks:
    size -> (weights, P). Raises AssertionError.
    """
    config = suite.make_run(folder, **sections)
    found, batches, result = {}, {}, {}
    for n in sizes:
        target = folder / f"on-{n}"
        status, output = suite.finish(
            suite.start(
                n, "train", config, "-o", target, fault=("record", -1, 0), LABELS=str(folder / f"labels-{n}")
            ),
            600,
        )
        assert status == 0, output
        found[n], batches[n] = read_checkpoint(target / "checkpoint.h5"), labels_of(folder / f"labels-{n}", n)
        assert len(batches[n]) == found[n].progress["update"]
        assert batches[n] == batches[sizes[0]], f"other batches on {n} ranks"
        first, other = found[sizes[0]], found[n]
        norm = lambda a, b: float(np.abs(a - b).max() / np.abs(a).max())  # noqa: E731
        result[n] = (
            norm(first.potential.weights, other.potential.weights),
            norm(first.optimizer["T"], other.optimizer["T"]),
        )
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for n, (weights, P) in compare(
            Path(name), [int(word) for word in sys.argv[1:]] or [1, 4, 8, 16]
        ).items():
            print(
                f"{n:3d} ranks: same batches; largest relative difference of weights {weights:.1e}, "
                f"of P {P:.1e}"
            )
