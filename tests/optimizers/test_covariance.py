"""The tiles of P: who holds which, the compiled product and fold against dense matrices, packing."""

import numpy as np
import pytest
from mpi4py import MPI

from mpnnp import environment
from mpnnp.errors import ConfigError
from mpnnp.kernels import jit
from mpnnp.kernels.covariance import aligned_zeros, ask_for_rows, make_fold, make_product
from mpnnp.optimizers import memory
from mpnnp.optimizers.covariance import Covariance, pack, unpack
from mpnnp.optimizers.layout import coupling_groups, make_layout, packed_start
from mpnnp.optimizers.memory import bytes_of

SEGMENTS = [(0, 4, 6, 0, 0), (30, 6, 1, 0, 1), (37, 4, 6, 1, 0), (67, 6, 1, 1, 1)]  # two elements, 4-6-1
N = 74


def filled(layout, seed=1):
    """A Covariance with random numbers in all tiles, and the dense matrix."""
    T = np.random.default_rng(seed).normal(size=(layout.n, layout.n))
    T = T + T.T
    for first, last in layout.groups:
        T[first:last, :first] = T[first:last, last:] = 0.0
    covariance = Covariance(layout, 0.0)
    packed = [T[first:last, first:last][np.tril_indices(last - first)] for first, last in layout.groups]
    unpack(covariance, np.concatenate(packed), MPI.COMM_SELF)
    return covariance, T


@pytest.mark.parametrize(
    "coupling, sizes",
    [
        ("full", [74]),
        ("element", [37, 37]),
        ("layer", [30, 7, 30, 7]),
        ("node", [5] * 6 + [7] + [5] * 6 + [7]),
        ("block:30", [30, 30, 14]),
    ],
)
def test_every_weight_is_in_one_group(coupling, sizes):
    order, start = coupling_groups(coupling, N, SEGMENTS)
    assert np.diff(start).tolist() == sizes
    assert np.array_equal(np.sort(order), np.arange(N))


def test_a_node_is_coupled_to_the_weights_into_it_and_its_bias():
    order, start = coupling_groups("node", N, SEGMENTS)
    assert order[start[1] : start[2]].tolist() == [1, 7, 13, 19, 25]  # W[:, 1] of a 4 x 6 layer, and b[1]
    assert order[start[6] : start[7]].tolist() == list(range(30, 37))


@pytest.mark.parametrize("coupling", ["none", "block:", "block:0", "block:x"])
def test_an_unknown_coupling_is_an_error_that_names_the_choices(coupling):
    with pytest.raises(ConfigError, match="full, element, layer, node or block:N"):
        coupling_groups(coupling, N, SEGMENTS)


@pytest.mark.parametrize("coupling", ["full", "layer", "node", "block:30"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 200])
def test_every_coupled_pair_lies_in_one_tile_of_one_rank(coupling, size):
    count = np.zeros((N, N), dtype=int)
    for rank in range(size):
        layout = make_layout(coupling, N, SEGMENTS, rank, size)
        for tile, (i, j) in enumerate(layout.mine, start=layout.owner_start[rank]):
            assert layout.owner(tile) == rank
            count[layout.extent(i), layout.extent(j)] += 1
    expected = np.zeros((N, N), dtype=int)
    for first, last in layout.groups:
        expected[first:last, first:last] = 1
    assert np.array_equal(np.maximum(count, count.T), expected)
    assert count.max() == 1


@pytest.mark.parametrize("size", [1, 2, 16, 64])
def test_each_rank_holds_its_share_of_half_the_matrix(size):
    n = 2827
    held = [make_layout("full", n, [], rank, size) for rank in range(size)]
    assert max(len(layout.mine) * layout.B**2 * 8 for layout in held) <= 5 * n * n / size


def test_blocks_of_a_large_net_need_memory_for_the_blocks_alone():
    layout = make_layout("block:5000", 50_000, [], 0, 1)
    assert len(layout.mine) * layout.B**2 * 8 < 5 * 10 * 5000**2


@pytest.mark.parametrize("coupling", ["full", "element", "layer", "node", "block:30"])
def test_the_memory_of_the_covariance_is_known_before_it_is_taken(coupling):
    _, group = coupling_groups(coupling, N, SEGMENTS)
    assert bytes_of(coupling, N, SEGMENTS) == 8 * packed_start(group)[-1]


def test_a_covariance_that_does_not_fit_is_refused_with_those_that_do(monkeypatch):
    n, segments = 10_000, [(0, 49, 100, 0, 0), (5_000, 49, 100, 0, 1)]
    free = 2.1 * bytes_of("layer", n, segments)  # for P, and once more for a checkpoint
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    memory.check_memory("layer", n, segments, MPI.COMM_SELF)
    with pytest.raises(ConfigError, match="10000 weights takes 0.4 GB.*'layer' .*'node' .*'block:5000'"):
        memory.check_memory("full", n, segments, MPI.COMM_SELF)
    assert environment.free_memory() > 0


def write_files(folder, **texts):
    """Files of the kernel in a folder, which is made: memory__max="max" is that of memory.max."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_free_memory_is_what_the_batch_job_still_allows(tmp_path):
    """SLURM limits the group of the job and that of the step, not those of the tasks below."""
    proc, task = tmp_path / "proc", tmp_path / "groups" / "slurm" / "job_7" / "step_0" / "task_0"
    write_files(proc, meminfo="MemTotal: 9000 kB\nMemAvailable: 8000 kB\nHugePages_Total: 0")
    write_files(proc / "self", cgroup="1:name=systemd:/\n0::/slurm/job_7/step_0/task_0")
    assert environment.free_memory(proc, tmp_path / "groups") == 8000 * 1024
    limits = {task: "max", task.parent: "5000000", task.parents[1]: "4000000", task.parents[2]: "max"}
    for group, limit in limits.items():
        stat = "anon 1000000\nfile 500000\nactive_file 200000\ninactive_file 100000"
        write_files(group, memory__max=limit, memory__current=1500000, memory__stat=stat)
    assert environment.free_memory(proc, tmp_path / "groups") == 4000000 - 1500000 + 300000
    write_files(task.parents[1], memory__max=1000000)
    assert environment.free_memory(proc, tmp_path / "groups") == 0.0
    assert environment.free_memory(tmp_path, tmp_path) == np.inf


def test_free_memory_is_what_groups_of_version_1_allow(tmp_path):
    """Enterprise Linux 7 and 8; without a limit there is a number larger than any memory."""
    proc, step = tmp_path / "proc", tmp_path / "groups" / "memory" / "slurm" / "job_7" / "step_0"
    write_files(proc, meminfo="MemAvailable: 8000 kB")
    write_files(proc / "self", cgroup="5:memory:/slurm/job_7/step_0\n1:name=systemd:/\n0::/")
    limits = {step: 2**63 - 4096, step.parent: 4000000, step.parents[1]: 2**63 - 4096}
    for group, limit in limits.items():
        stat = "active_file 7\ninactive_file 7\ntotal_active_file 200000\ntotal_inactive_file 100000"
        write_files(group, memory__limit_in_bytes=limit, memory__usage_in_bytes=1500000, memory__stat=stat)
    assert environment.free_memory(proc, tmp_path / "groups") == 4000000 - 1500000 + 300000
    write_files(step.parent, memory__limit_in_bytes=2**63 - 4096)
    assert environment.free_memory(proc, tmp_path / "groups") == 8000 * 1024


def test_cores_are_limited_by_groups_of_version_1(tmp_path):
    group = tmp_path / "groups" / "cpu" / "docker" / "a"
    write_files(tmp_path / "self", cgroup="3:cpu,cpuacct:/docker/a\n2:cpuset:/docker/a")
    for folder, quota in ((group, -1), (group.parent, 250000)):
        write_files(folder, cpu__cfs_quota_us=quota, cpu__cfs_period_us=100000)
    assert environment.core_limit(tmp_path, tmp_path / "groups") == 2.5
    write_files(group.parent, cpu__cfs_quota_us=-1)
    assert environment.core_limit(tmp_path, tmp_path / "groups") is None


def test_cores_are_limited_by_every_group_that_holds_the_process(tmp_path):
    group = tmp_path / "groups" / "user" / "session"
    write_files(tmp_path / "self", cgroup="0::/user/session")
    assert environment.core_limit(tmp_path, tmp_path / "groups") is None
    write_files(group, cpu__max="max 100000")
    write_files(group.parent, cpu__max="250000 100000")
    assert environment.core_limit(tmp_path, tmp_path / "groups") == 2.5


def test_a_covariance_with_offsets_that_does_not_fit_is_refused_with_couplings_that_carry_none(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2.1 * bytes_of("layer", N, SEGMENTS))
    with pytest.raises(ConfigError, match=f"{N} weights .*'layer' .*'node' "):
        memory.check_memory("full", N, SEGMENTS, MPI.COMM_SELF, n_offset=3)


def test_tiles_start_on_cache_lines():
    assert all(aligned_zeros((k, 3)).ctypes.data % 64 == 0 for k in range(1, 9))


@pytest.mark.parametrize("coupling", ["full", "node", "block:30"])
@pytest.mark.parametrize("M", [1, 2, 3, 8])
def test_the_product_equals_the_dense_product(coupling, M):
    covariance, T = filled(make_layout(coupling, N, SEGMENTS, 0, 1))
    H = np.random.default_rng(M).normal(size=(M, N))
    np.testing.assert_allclose(covariance.multiply(H), H @ T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [191, 192, 193, 500])
def test_the_product_and_the_fold_do_not_depend_on_how_the_tiles_end(n):
    covariance, T = filled(make_layout("full", n, [], 0, 1))
    rng = np.random.default_rng(n)
    U, H = rng.normal(size=(5, n)), rng.normal(size=(4, n))
    covariance.fold(U)
    np.testing.assert_allclose(covariance.multiply(H), H @ (T - U.T @ U), rtol=0, atol=1e-10)
    np.testing.assert_allclose(covariance.diagonal(), np.diag(T - U.T @ U), rtol=0, atol=1e-12)


def test_the_fold_keeps_blocks_apart_and_diagonal_tiles_exactly_symmetric():
    covariance, T = filled(make_layout("layer", N, SEGMENTS, 0, 1))
    U = np.random.default_rng(2).normal(size=(7, N))
    covariance.fold(U)
    expected = np.where(T == 0, 0.0, T - U.T @ U)
    np.testing.assert_allclose(covariance.multiply(np.eye(N)), expected, rtol=0, atol=1e-12)
    for tile, (i, j) in zip(covariance.tiles, covariance.layout.mine, strict=True):
        assert i != j or np.array_equal(tile, tile.T)


def test_kernels_close_over_the_tile_size_alone():
    """Numba finds machine code by the contents of the closure:
    a compiled function in it would be another one in every process.
    """
    for kernel in (make_product(24, 1), make_product(24, 2), make_fold(24)):
        function = getattr(kernel, "py_func", kernel)
        assert [cell.cell_contents for cell in function.__closure__] == [24]


def test_the_loops_ask_memory_for_rows_before_they_need_them(monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", None)
    T = np.arange(192.0)

    def ask(T, part):
        ask_for_rows(T, np.uintp(0), np.uintp(24), part, np.uintp(5))

    compiled = jit.kernel(ask)
    for part in range(5):  # the last ones lie beyond the tiles: the last line is asked for instead
        compiled(T, np.uintp(part))
    assert "llvm.prefetch" in compiled.inspect_llvm(compiled.signatures[0])
    assert np.array_equal(T, np.arange(192.0))


def test_packing_and_unpacking_give_back_the_same_bits():
    layout = make_layout("element", N, SEGMENTS, 0, 1)
    covariance, T = filled(layout)
    packed = pack(covariance, MPI.COMM_SELF)
    assert len(packed) == packed_start(layout.group)[-1] == 2 * 37 * 38 // 2
    assert np.array_equal(packed[: 37 * 38 // 2], T[:37, :37][np.tril_indices(37)])
    again = Covariance(layout, 1.0)
    unpack(again, packed, MPI.COMM_SELF)
    assert np.array_equal(again.tiles, covariance.tiles)
