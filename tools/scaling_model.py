"""Time of one filter update for any number of weights and ranks:

    python tools/scaling_model.py, or mpiexec -n 2 python tools/scaling_model.py ...

Measures the kernels of the covariance, the work that every rank repeats, and the messages between the ranks
it is started on; checks the model against whole updates on these ranks; and predicts runs on a cluster whose
network is given by --latency and --bandwidth.

    t(n, M, p) = ceil(M/p) t_row + K t_product(M) + M K t_fold + n t_repeated(M) + t_messages

with K the tiles of the fullest rank, as the product lays them out. Messages per update: one call that gathers
the rows (8 M n bytes), and one that adds the partial products (8 M n bytes):

    t_messages = 3 a ceil(log2 p) + 3 (8 M n) (p-1) / (p b)        a latency, b bandwidth of a rank

(a sum travels twice, as reduce-scatter and gather; each of its halves has latency a log2 p). If the tiles of
all ranks of a node do not fit in its cache, products are not faster than the memory of the node:

    K t_product >= K 8 B^2 ranks_per_node / node_bandwidth.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass

from mpnnp import environment

environment.prepare()  # before numpy

import numpy as np  # noqa: E402
from benchmarking.machine import alone, median_ms  # noqa: E402
from scipy.linalg.blas import dtrsm  # noqa: E402

from mpnnp.config import Ekf  # noqa: E402
from mpnnp.optimizers.covariance import Covariance  # noqa: E402
from mpnnp.optimizers.ekf import make_ekf  # noqa: E402
from mpnnp.optimizers.layout import TILE_SIZES, Layout, make_layout  # noqa: E402
from mpnnp.parallel import world  # noqa: E402

STREAMS = (2, 10, 32)
WEIGHTS = (2827, 10_000, 100_000)
RANKS = (1, 2, 4, 16, 64, 256, 1024)
R_MAX = Ekf().r_max
DRAM_BYTES = 300e6  # tiles that do not stay in the cache


@dataclass
class Machine:
    """Seconds; tables by tile size B and by number of observations M."""

    product: dict  # [B][M] per tile, X = H T, from memory
    cached: dict  # the same from the cache
    fold: dict  # [B] per tile and row of U
    repeated: dict  # [M] per weight: what every rank does
    row: float  # one observation with its row, per weight
    latency: float
    bandwidth: float  # B/s of one rank
    cache: float  # bytes of tiles of one node that stay in cache
    node_bandwidth: float  # B/s of the memory of one node
    ranks_per_node: int

    def update(self, n, M, p):
        """Parts of the time of an update, as a dict."""
        layout = make_layout("full", n, (), 0, p)
        K, B = int(np.diff(layout.owner_start).max()), layout.B
        on_node = min(p, self.ranks_per_node)
        fits = len(layout.tiles) / p * on_node * 8 * B * B < self.cache
        product = K * (self.cached if fits else self.product)[B][M]
        if not fits:
            product = max(product, K * 8 * B * B * on_node / self.node_bandwidth)
        hops = math.ceil(math.log2(p))
        return {
            "rows": -(-M // p) * self.row * n,
            "product": product,
            "fold": M * K * self.fold[B],
            "repeated": n * self.repeated[M],
            "messages": 3 * self.latency * hops + 3 * 8 * M * n * (p - 1) / p / self.bandwidth,
        }


def seconds(call, repeat=7, calls_each=1):
    return 1e-3 * median_ms(call, repeat, calls_each)


def covariance_of(B, n_block):
    """One rank's covariance of n_block blocks of size B in full."""
    tiles = np.array([(i, j) for i in range(n_block) for j in range(i + 1)])
    ends = np.arange(n_block + 1) * B
    layout = Layout(
        order=None,
        group=np.array([0, n_block * B]),
        B=B,
        block=ends,
        tiles=tiles,
        owner_start=np.array([0, len(tiles)]),
        rank=0,
    )
    return Covariance(layout, 1.0)


def measure_tiles(n_byte):
    """({B: {M: product}}, {B: fold}), seconds per tile, with n_byte of tiles."""
    product, fold, rng = {}, {}, np.random.default_rng(0)
    for B in TILE_SIZES:
        n_block = max(2, int(math.sqrt(2 * n_byte / (8 * B * B))))
        P = covariance_of(B, n_block)
        n = n_block * B
        product[B] = {}
        for M in STREAMS:
            H = rng.standard_normal((M, n))
            product[B][M] = seconds(lambda P=P, H=H: P.multiply(H)) / len(P.tiles)
        U = 1e-6 * rng.standard_normal((R_MAX, n))
        fold[B] = seconds(lambda P=P, U=U: P.fold(U), 3) / len(P.tiles) / R_MAX
    return product, fold


def measure_repeated(n=10_000):
    """{M: seconds per weight} of the algebra that every rank repeats, with half of the lazy rows in use."""
    result, rng = {}, np.random.default_rng(0)
    U = rng.standard_normal((R_MAX // 2, n))
    for M in STREAMS:
        H, L, errors = rng.standard_normal((M, n)), np.eye(M), np.ones(M)

        def algebra(H=H, L=L, errors=errors):
            X = H - (H @ U.T) @ U
            X += 0.1 * H
            A = X @ H.T
            V = dtrsm(1.0, L, X.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
            return A, errors @ V

        result[M] = seconds(algebra) / n
    return result


def measure_messages(comm):
    """(latency of one hop, bandwidth) from sums over the ranks of this job; (0, inf) on one rank.

    Collective.
    """
    if comm.size == 1:
        return 0.0, math.inf
    times = []
    for n in (1, 2_000_000):
        part, total = np.ones(n), np.empty(n)
        times.append(comm.bcast(seconds(lambda part=part, total=total: comm.Allreduce(part, total), 31, 5)))
    hops, p = math.ceil(math.log2(comm.size)), comm.size
    return times[0] / (2 * hops), 2 * 16e6 * (p - 1) / p / max(times[1] - times[0], 1e-9)


def measure_update(n, M, comm):
    """Seconds of one whole update of the product's filter on these ranks; its rows are ready. Collective."""
    ekf = make_ekf(Ekf(eta=1.0, eta_max=1.0, q=1e-6, q_tau=0.0), n, (), comm)
    state, rng = ekf.init(), np.random.default_rng(1)
    H, errors = 0.1 * rng.standard_normal((M, n)), rng.standard_normal(M)
    mine = slice(comm.rank * M // comm.size, (comm.rank + 1) * M // comm.size)
    rows, errors = np.ascontiguousarray(H[mine]), errors[mine]
    period = max(1, ekf.fold_columns // M)
    return 1e-3 * median_ms(lambda: ekf.update(state, rows, errors), 5, period, warm_up=period)


def measure(comm, arguments):
    """The Machine of these ranks. Collective; None on ranks above 0."""
    message = measure_messages(comm)

    def tables():
        product, fold = measure_tiles(DRAM_BYTES)
        cached = measure_tiles(arguments.cache * 1e6 / 2)[0]
        read = np.ones(int(DRAM_BYTES / 8))
        bandwidth = read.nbytes / seconds(lambda: np.dot(read, read))
        row = arguments.row * 1e-3 / 2827
        return Machine(
            product,
            cached,
            fold,
            measure_repeated(),
            row,
            *message,
            arguments.cache * 1e6,
            bandwidth * comm.size,
            comm.size,
        )

    return alone(comm, tables)


def check(machine, comm):
    """Print predicted and measured updates on these ranks; rows are not part of them. Collective."""
    if comm.rank == 0:
        print(
            f"\nwhole updates on {comm.size} rank(s), ms, without the rows:\n"
            f"{'n':>8} {'M':>4} {'model':>9} {'measured':>9}"
        )
    for n in WEIGHTS[:2]:
        for M in STREAMS:
            found = measure_update(n, M, comm)
            if comm.rank == 0:
                parts = machine.update(n, M, comm.size)
                print(f"{n:8d} {M:4d} {1e3 * (sum(parts.values()) - parts['rows']):9.2f} {1e3 * found:9.2f}")


def predict(machine, arguments):
    machine.latency, machine.bandwidth = arguments.latency * 1e-6, arguments.bandwidth * 1e9
    machine.ranks_per_node, machine.node_bandwidth = arguments.ranks_per_node, arguments.node_bandwidth * 1e9
    machine.cache = arguments.node_cache * 1e6
    print(
        f"\ncluster: latency {arguments.latency} us, {arguments.bandwidth} GB/s per rank, "
        f"nodes of {arguments.ranks_per_node} ranks, ",
        end="",
    )
    print(f"{arguments.node_bandwidth} GB/s and {arguments.node_cache} MB of cache")
    for n in WEIGHTS:
        for M in STREAMS:
            print(f"\nn = {n}, M = {M}: ms per update\n{'ranks':>6} {'tile':>5} {'P per rank':>11} ", end="")
            print(
                " ".join(
                    f"{name:>9}"
                    for name in ("rows", "product", "fold", "repeated", "messages", "total", "speed-up")
                )
            )
            first = None
            for p in RANKS:
                parts = machine.update(n, M, p)
                layout = make_layout("full", n, (), 0, p)
                size = np.diff(layout.owner_start).max() * 8 * layout.B**2 / 1e6
                total = sum(parts.values())
                first = first or total
                print(f"{p:6d} {layout.B:5d} {size:8.1f} MB ", end="")
                print(" ".join(f"{1e3 * x:9.3f}" for x in (*parts.values(), total)), f"{first / total:9.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":"))
    parser.add_argument(
        "--row",
        type=float,
        default=0.3,
        help="ms of one observation with selection and row, 2827 weights (tools/benchmark.py)",
    )
    parser.add_argument("--cache", type=float, default=24.0, help="MB of tiles that stay in the cache here")
    parser.add_argument("--latency", type=float, default=1.5, help="of a message on the cluster, us")
    parser.add_argument(
        "--bandwidth",
        type=float,
        default=3.0,
        help="of a rank on the cluster, GB/s (what its share of the node's network is)",
    )
    parser.add_argument("--ranks-per-node", type=int, default=64)
    parser.add_argument("--node-bandwidth", type=float, default=300.0, help="memory, GB/s")
    parser.add_argument("--node-cache", type=float, default=256.0, help="MB")
    parser.add_argument("--json", help="write what was measured to this file")
    arguments = parser.parse_args()
    comm = world()
    machine = measure(comm, arguments)
    if machine and arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(asdict(machine), file, indent=1)
    if machine:
        print(
            f"latency {1e6 * machine.latency:.2f} us a hop, {machine.bandwidth / 1e9:.1f} GB/s; "
            f"memory {machine.node_bandwidth / 1e9:.0f} GB/s"
        )
        for B in TILE_SIZES:
            cells = "  ".join(
                f"M={M}: {1e6 * machine.product[B][M]:.1f} ({1e6 * machine.cached[B][M]:.1f})"
                for M in STREAMS
            )
            print(
                f"tile {B:3d}: product, us, from memory (cache)  {cells};  "
                f"fold {1e6 * machine.fold[B]:.2f} us a row of U"
            )
    check(machine, comm)
    if machine:
        predict(machine, arguments)


if __name__ == "__main__":
    main()
