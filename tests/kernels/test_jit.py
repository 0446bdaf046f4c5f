import os
import time
from typing import NamedTuple

import numba
import numpy as np
import pytest

from mpnnp.kernels import jit


class Pair(NamedTuple):
    numbers: np.ndarray
    n: int


def test_the_folder_of_the_cache_is_named_by_all_sources(tmp_path, monkeypatch):
    for name in ("jit.py", "other.py"):
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
    before = jit.cache_key()
    assert jit.cache_key() == before
    (tmp_path / "other.py").write_text("a = 2\n")
    assert jit.cache_key() != before


def test_the_user_may_choose_the_folder_and_old_versions_go(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    old, recent, foreign = (
        tmp_path / name for name in (jit.PREFIX + "old", jit.PREFIX + "recent", "something")
    )
    for folder in (old, recent, foreign):
        folder.mkdir()
    for folder in (old, foreign):
        os.utime(folder, (time.time() - 1e8,) * 2)
    folder = jit.find_cache_folder()
    assert folder.parent == tmp_path and folder.is_dir()
    assert not old.exists() and recent.exists() and foreign.exists()


def test_no_folder_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert jit.find_cache_folder() is None
    monkeypatch.setattr(jit, "CACHE_FOLDER", None)

    @jit.kernel
    def twice(x):
        return 2 * x

    assert twice(2) == 4


def test_decorating_leaves_the_setting_of_numba_alone():
    before = numba.config.CACHE_DIR
    jit.kernel(lambda x: x)
    assert numba.config.CACHE_DIR == before


def test_read_only_views_share_memory():
    a = np.zeros((3, 2))
    view = jit.read_only(a)
    assert not view.flags.writeable and view.flags.c_contiguous and np.shares_memory(a, view)
    assert a.flags.writeable and jit.read_only(a.T).flags.c_contiguous


def test_a_constant_argument_does_not_compile_a_kernel_again():
    @jit.kernel
    def power(x, n):
        return x**n

    @jit.kernel
    def both(x):
        return power(x, 1) + power(x, 2)

    assert both(3.0) == 12.0
    assert len(power.parts) == 1 and not power.signatures


def test_arrays_that_are_apart_are_known_to_the_compiler(monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", None)

    def shift(a, b):
        for k in range(len(a)):
            a[k] = b[k] + 1.0

    found = []
    for apart in (False, True):
        compiled = jit.kernel(shift, apart=apart)
        a, b = np.zeros(30), np.arange(30.0)
        compiled(a, b)
        assert (a == b + 1.0).all()
        lines = compiled.inspect_llvm(compiled.signatures[0]).splitlines()
        head = next(line for line in lines if line.startswith("define") and "shift" in line)
        found.append(head.count("noalias"))  # of its arguments, and of the result
    assert found[1] > found[0]


def test_a_kernel_has_its_own_copies_of_the_kernels_that_it_calls(monkeypatch):
    def weak(decorator):
        @decorator
        def callee(a):  # calls itself: it cannot be inlined
            if len(a) > 1:
                callee(a[1:])
            a[0] = np.sqrt(a[0])

        @decorator
        def caller(a):
            callee(a)

        caller(np.ones(3))
        (overload,) = caller.overloads.values()
        code = overload.library.get_llvm_str()
        return [
            line for line in code.splitlines() if line.startswith("define linkonce_odr") and "callee" in line
        ]

    monkeypatch.setattr(jit, "CACHE_FOLDER", None)
    assert weak(numba.njit)  # what this is about: the first copy in a process would serve all callers
    assert not weak(jit.kernel)


def test_only_kernels_that_make_arrays_count_references(monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", None)

    def move_along(pair, n):
        numbers = pair.numbers
        for _ in range(n):
            if numbers[0] > 1.0:
                numbers = numbers[1:]
            numbers[0] += 1.0

    pair, found = Pair(np.zeros(3), 3), []
    for makes_arrays in (True, False):
        compiled = jit.kernel(move_along, makes_arrays=makes_arrays)
        compiled(pair, 3)
        found.append(compiled.inspect_llvm(compiled.signatures[0]).count("@NRT_incref("))
    assert (pair.numbers == 2.0).all()
    assert found[1] < found[0]  # the wrapper for Python is in both


@jit.kernel(makes_arrays=True)
def make_pair(n):
    return Pair(np.ones(n), n)


@jit.kernel
def first_half(pair):
    return Pair(pair.numbers[: pair.n // 2], pair.n // 2)


def test_arrays_are_not_handed_on_uncounted(monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", None)

    def total(n):
        return make_pair(n).numbers.sum()

    def half(n):
        return first_half(make_pair(n)).numbers.sum()

    assert jit.kernel(total, makes_arrays=True)(4) == 4.0
    for refused, name in (
        (jit.kernel(total), "make_pair"),  # would never free what make_pair made
        (jit.kernel(half, makes_arrays=True), "first_half"),  # would free it while half of it is still read
    ):
        with pytest.raises(Exception, match=f"{name} returns arrays"):
            refused(4)
