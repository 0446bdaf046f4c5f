"""The decorator of compiled kernels, how they are compiled, and a cache of machine code that cannot go stale.

Numba checks the file of the function it loads, not the files of the functions that one calls: after an edit
of a callee it would load old machine code. Here the folder of the cache is named by a hash of every source in
this package, of the versions and of the CPU.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.sigutils import normalize_signature
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import AnnotateTypes
from numba.core.typing.templates import make_concrete_template

PREFIX = "mpnnp-kernels-"
DAYS_UNUSED = 30  # folders of other versions are deleted after this time
# for sums over rows; never where NaN, infinity or the order of rounding matter
FASTMATH = {"contract", "nsz", "arcp", "reassoc"}


def kernel(function=None, *, apart=False, makes_arrays=False, **options):
    """A compiled function with a safe cache, without the test for division by zero, and without the lock of
    the interpreter (a thread listens for signals meanwhile): `@kernel` or `@kernel(fastmath=FASTMATH)`.
    Options are those of `numba.njit`.

    apart  promises that no array argument overlaps with another one that is written to. Without it LLVM tests
           every pair of rows before each loop, and takes the slow loop for rows too short to pay for that.
    makes_arrays
           The kernel makes arrays, or is handed those that another one made, and counts references to arrays,
           as all code of Numba does. The others work on arrays that their callers keep alive, return none and
           count nothing: counts are atomic operations, and took 40 % of the time of symmetry functions. Views
           are made by kernels with inline="always", which are part of the kernel that uses them.
    """
    settings = {"nopython": True, "error_model": "numpy", "nogil": True, "_nrt": makes_arrays, **options}

    def decorate(f):
        if numba.config.DISABLE_JIT:
            return f
        compiled = Kernel(
            f, targetoptions=settings, pipeline_class=ApartCompiler if apart else KernelCompiler
        )
        before = numba.config.CACHE_DIR
        # read when a cache is made, never later
        numba.config.CACHE_DIR = str(CACHE_FOLDER or before)
        try:
            if CACHE_FOLDER is not None:
                compiled.enable_caching()
        finally:
            numba.config.CACHE_DIR = before
        return compiled

    return decorate if function is None else decorate(function)


class SelfContained(JITCodeLibrary):
    """The machine code of a kernel with copies of all kernels that it calls, its own alone.

    Numba makes them weak symbols: whichever copy a process happens to load first serves all callers. Copies
    are rounded alike only if they were optimised alike, so a process that compiles would give other last
    digits than one that loads the same kernels from the cache, and a killed run could not be resumed exactly.
    """

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


class Part(JITCodeLibrary):
    """A kernel as its callers take it: linked with what it calls, neither optimised nor machine code."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=True)
class MakeLibrary(LoweringPass):
    """Numba's compilation puts the code of a kernel into a library of a class of ours."""

    _name = "mpnnp_make_library"

    def __init__(self):  # abstract in Numba
        super().__init__()

    def run_pass(self, state):
        library = Part if state.flags.no_compile else SelfContained
        state.library = library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


class KernelCompiler(CompilerBase):
    """Numba's compiler with the pass MakeLibrary before machine code is made."""

    flags: tuple[str, ...] = ()  # of Numba, which `njit` does not offer

    def define_pipelines(self):
        for flag in self.flags:
            setattr(self.state.flags, flag, True)
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(MakeLibrary, AnnotateTypes)
        passes.finalize()
        return [passes]


class PartCompiler(KernelCompiler):
    flags = ("no_compile", "no_cpython_wrapper", "no_cfunc_wrapper")


class ApartCompiler(KernelCompiler):
    flags = ("noalias",)


class ApartPartCompiler(KernelCompiler):
    flags = (*ApartCompiler.flags, *PartCompiler.flags)


FOR_CALLERS = {KernelCompiler: PartCompiler, ApartCompiler: ApartPartCompiler}


class Kernel(CPUDispatcher):
    """A function that is compiled when Python calls it, and once more, as a part, when other kernels call it.

    Numba makes the same of both: optimised machine code, and wrappers that Python and C can call. Callers use
    none of this: they take what LLVM reads, and optimise it with their own. So no more is made for them.
    """

    def __init__(self, py_func, locals=None, targetoptions=None, pipeline_class=KernelCompiler):
        super().__init__(py_func, locals or {}, targetoptions or {}, pipeline_class)
        self._parts_compiler = type(self._compiler)(
            py_func, self.targetdescr, self.targetoptions, self.locals, FOR_CALLERS[pipeline_class]
        )
        self.counts = self.targetoptions["_nrt"]
        self.parts = {}  # types of arguments -> (key in Numba's table of functions, signature)

    def compile(self, sig):
        """Numba's compilation for a call from Python, which counts references to what it gets."""
        entry = super().compile(sig)
        for signature in self.nopython_signatures:
            self._may_return(signature.return_type, self.counts)
        return entry

    def get_call_template(self, args, kws):
        """What Numba asks a kernel for when another one calls it. Constants are taken for any number of their
        type: else the callee would be compiled once more for every constant.
        """
        general = [numba.types.unliteral(argument) for argument in args]
        named = {name: numba.types.unliteral(argument) for name, argument in kws.items()}
        pysig, folded = self.fold_argument_types(tuple(general), named)
        _, signature = self._part(tuple(folded))
        self._may_return(signature.return_type, self.counts and ConfigStack().top().nrt)
        name = self.py_func.__name__
        return make_concrete_template(f"CallTemplate({name})", name, [signature]), pysig, folded, {}

    def get_overload(self, sig):
        """What Numba finds the machine code of a call by."""
        types, _ = normalize_signature(sig)
        return self._part(tuple(types))[0]

    def _may_return(self, returned, counts):
        """Refuse to hand on arrays without counting them: their memory is freed too early, or never."""
        if holds_arrays(returned) and not counts:
            name = self.py_func.__name__
            raise TypeError(f"{name} returns arrays: it and the kernels that call it need makes_arrays=True")

    def _part(self, types):
        """(key, signature) of the kernel for callers with these types of arguments."""
        if types not in self.parts:
            with global_compiler_lock, self._compiling_counter:
                result = self._parts_compiler.compile(types, None)
            key = object()
            self.targetctx.insert_user_function(key, result.fndesc, [result.library])
            self.parts[types] = key, result.signature
        return self.parts[types]


def holds_arrays(type):
    """True for Numba's types of arrays, and of tuples with arrays among their items."""
    if isinstance(type, numba.types.BaseTuple):
        return any(holds_arrays(item) for item in type)
    return isinstance(type, numba.types.Array)


def read_only(array):
    """A read-only view, C-contiguous (copied only if it was not).

    Kernels are compiled per type, and Numba's types tell read-only arrays (a mapped file) from others: pass
    inputs through here always, and every kernel is compiled once.
    """
    view = np.ascontiguousarray(array).view(np.ndarray)[...]
    view.flags.writeable = False
    return view


def cache_key():
    """Hash of all that decides about the machine code."""
    parts = [
        sys.version,
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        str(numba.config.CPU_NAME),
        str(numba.config.CPU_FEATURES),
    ]
    parts += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    digest = hashlib.sha256("\n".join(parts).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def find_cache_folder():
    """$NUMBA_CACHE_DIR, else beside the sources, else in ~/.cache, else in the folder for temporary files;
    None if none can be written.
    """
    user = f"mpnnp-{os.getuid()}" if hasattr(os, "getuid") else "mpnnp"
    bases = [
        Path(__file__).parent / "__pycache__",
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpnnp",
        Path(tempfile.gettempdir()) / user,
    ]
    if os.environ.get("NUMBA_CACHE_DIR"):
        bases = [Path(os.environ["NUMBA_CACHE_DIR"])]
    name = PREFIX + cache_key()
    for base in bases:
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                pass
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                continue  # machine code of another user is not ours to run
            os.utime(folder)
            delete_unused(base, name)
            return folder
        except OSError:
            continue
    return None


def delete_unused(base, keep):
    """Remove the folders of other versions that nobody opened for DAYS_UNUSED days;
    another process may be doing the same.
    """
    for folder in base.glob(PREFIX + "*"):
        try:
            if folder.name != keep and time.time() - folder.stat().st_mtime > DAYS_UNUSED * 86400:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass


CACHE_FOLDER = find_cache_folder()
