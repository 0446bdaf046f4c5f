"""Broken files for every reader: python tests/faults/fuzz.py [--examples 1000] [READER...]

Hypothesis changes the bytes of valid files, or makes them up; a reader must return something or raise an
MpnnpError. Anything else, more than 4 GiB of memory or more than 20 s of CPU time for a file is a failure; a
library that does not come back ends the program after 60 s, and the file stays in the folder that is named.
Prints how many files each reader was given. Unix only.
"""

import argparse
import faulthandler
import gzip
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import h5py
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as of_seed
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from small import write_clusters  # noqa: E402
from vasp import VASPRUN, ml_ab, outcar, oxygen_and_hydrogen  # noqa: E402

from mpnnp import files as sealed  # noqa: E402
from mpnnp.config import read_config, to_toml  # noqa: E402
from mpnnp.data import dataset  # noqa: E402
from mpnnp.data.formats import read_sources  # noqa: E402
from mpnnp.data.store import read_weights  # noqa: E402
from mpnnp.errors import MpnnpError  # noqa: E402
from mpnnp.n2p2.potential_files import read_potential  # noqa: E402
from mpnnp.n2p2.translate import translate  # noqa: E402
from mpnnp.training import checkpoint  # noqa: E402

DATA = HERE.parent / "reference"
MEMORY, SECONDS = 4 << 30, 20
WORDS = [
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e9",
    b"\0",
    b"\xff\xfe",
    b"\n",
    b" ",
    b"#",
    b"begin\n",
]
WORDS += [
    b"end\n",
    b"Xx",
    b"H",
    b"[",
    b"]]",
    b"{",
    b'"',
    b"=",
    b"\x80\x04\x95",
    b"atom 0 0 0 H\n",
    b"lattice 0 0 0\n",
]
WORDS += [b"cutoff_type 99\n", b"[data]\n", b"-" * 300]


def changed(bases):
    """Strategy: bytes of one of `bases` with up to eight places overwritten, cut, doubled,
    or filled with awkward words; or any bytes.
    """
    place = st.integers(0, 1 << 20)
    word = st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=8))
    edit = st.tuples(
        st.sampled_from(["overwrite", "insert", "delete", "cut", "double", "token"]), place, place, word
    )

    def apply(base, edits):
        data = bytearray(base)
        for kind, at, size, text in edits:
            at %= len(data) + 1
            if kind == "overwrite":
                data[at : at + len(text)] = text
            elif kind == "insert":
                data[at:at] = text
            elif kind == "delete":
                del data[at : at + 1 + size % 64]
            elif kind == "cut":
                del data[at:]
            elif kind == "double":
                data[at:at] = data[at : at + 1 + size % 200]
            else:  # a whole word of the text
                end = next((k for k in range(at, len(data)) if data[k : k + 1].isspace()), len(data))
                first = next((k for k in range(at, 0, -1) if data[k - 1 : k].isspace()), 0)
                data[first:end] = text
        return bytes(data)

    many = st.lists(edit, min_size=1, max_size=8)
    return st.one_of(
        st.builds(apply, st.sampled_from(bases), many),
        st.builds(apply, st.sampled_from(bases), many),
        st.binary(max_size=400),
    )


XYZ_DIALECTS = (
    b"2\n# CELL(abcABC): 5 5 5 90 90 90 Step: 0 Bead: 0 positions{angstrom} cell{angstrom}\n"
    b"Cu 0 0 0\nCu 2.5 0 0\n",
    b'2\nlattice="4 0 0 0 4.2 0 0 0 4.4" properties=species:S:1:pos:R:3:force:R:3 Energy=-10 '
    b'Virial="1 0 0 0 2 0 0 0 3" Weight=5.0 energy_units=eV pbc="T T T"\n'
    b"Si 0 0 0 .1 .2 .3\nO 1.6 0 0 -.1 -.2 -.3\n",
    b"2\n# CELL(H): 5 0 0 0 5 0 0 0 5 Step: 0 positions{angstrom} cell{angstrom}\nCu 0 0 0\nCu 2.5 0 0\n",
    b'2\nTimestep=0 pbc="T T T" Lattice="5 0 0 0 5 0 0 0 5" Potential_energy=-3.5 Stress="1 0 0 0 1 0 0 0 1" '
    b"Properties=species:S:1:pos:R:3\nCu 0 0 0\nCu 2.5 0 0\n",
)
CP2K_TRAJECTORY = (
    b"2\n i = 0, time = 0.0, E = -1.5\nO 0 0 0\nH 0 0 1\n"
    b"2\n i = 1, time = 0.5, E = -1.6\nO 0 0 0\nH 0 0 1.1\n"
)
CP2K_OUTPUT = (
    b" DBCSR| x\n CELL| Vector a [angstrom]: 9.0 0.0 0.0\n CELL| Vector b [angstrom]: 0.0 9.0 0.0\n"
    b" CELL| Vector c [angstrom]: 0.0 0.0 9.0\n ATOMIC COORDINATES IN angstrom\n\n"
    b"       1     1 O     8    0.000000    0.000000    0.000000\n       2     2 H     1    0.000000    "
    b"0.000000    1.000000\n\n"
    b" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:  -17.0\n ATOMIC FORCES in [a.u.]\n\n"
    b"      1      1      O    0.010000    0.000000    0.000000\n      2      2      H   -0.010000    "
    b"0.000000    0.000000\n"
)
CP2K_OUTPUT_2025 = CP2K_OUTPUT.partition(b" ATOMIC FORCES")[0] + (
    b" FORCES| Atomic forces [hartree/bohr]\n FORCES|   Atom     x               y               z\n"
    b" FORCES|      1  1.0E-02  0.0E+00  2.0E-02   2.2E-02\n"
    b" FORCES|      2 -1.0E-02  0.0E+00 -2.0E-02   2.2E-02\n\n"
    b" STRESS| Analytical stress tensor [GPa]\n STRESS|    x   y   z\n"
    b" STRESS|  x  1.5E+00  0.4E+00  0.3E+00\n"
    b" STRESS|  y  0.4E+00  2.5E+00  0.2E+00\n STRESS|  z  0.3E+00  0.2E+00  3.5E+00\n"
)
AENET = (
    b"# total energy = -17.5 eV\n\nCRYSTAL\nPRIMVEC\n 4.0 0.0 0.0\n 0.0 5.0 0.0\n 1.0 0.0 6.0\n"
    b"PRIMCOORD\n 2 1\n"
    b"Ti 0.0 0.1 0.2 0.5 -0.25 1.0\nO 2.0 0.1 0.2 -0.5 0.25 -1.0\n"
)


def restyled(base, comments, keys):
    """Strategy: the text of `base` written otherwise: blank lines, spaces, line ends, comment lines, keys
    in another case.

    comments  lines that may stand between structures;  keys  words whose case does not matter
    """
    edit = st.tuples(
        st.sampled_from(["blank", "space", "crlf", "comment", "case", "tab"]), st.integers(0, 1 << 20)
    )

    def apply(edits):
        lines = base.decode().splitlines()
        ends = [k for k, line in enumerate(lines) if line.strip().lower() == "end" or k == len(lines) - 1]
        if not comments:  # frames of an xyz file: behind the atoms that the first line counts
            ends, k = [], 0
            while k < len(lines):
                k += int(lines[k]) + 2
                ends.append(k - 1)
        ending, inserted = "\n", []
        for kind, at in edits:
            if kind == "blank":
                inserted.append((ends[at % len(ends)], " " * (at % 3)))
            elif kind == "comment" and comments:
                inserted.append((ends[at % len(ends)], comments[at % len(comments)]))
            elif kind == "crlf":
                ending = "\r\n"
            elif kind == "space":
                k = at % len(lines)
                lines[k] = (
                    f"  {lines[k]}  "
                    if comments or not lines[k].startswith(("Lattice", "Prop"))
                    else lines[k]
                )
            elif kind == "tab" and comments:
                lines[at % len(lines)] = lines[at % len(lines)].replace(" ", "\t")
            elif kind == "case":
                k, key = at % len(lines), keys[at % len(keys)]
                lines[k] = lines[k].replace(key, key.upper() if at % 2 else key.lower(), 1)
        for k, text in sorted(inserted, reverse=True):
            lines.insert(k + 1, text)
        return (ending.join(lines) + ending).encode()

    return st.lists(edit, min_size=1, max_size=6).map(apply)


def resealed(data):
    """The bytes of a sealed file with a seal that fits, so that the HDF5 library sees what was changed."""
    body = data[sealed.BLOCK :]
    line = f"mpnnp {len(data)} {zlib.crc32(body):08x}\n".encode()
    return line.ljust(sealed.BLOCK, b"\0") + body


def _stressed():
    atoms = oxygen_and_hydrogen()
    atoms.calc.results["stress"] = np.arange(6.0)
    return atoms


def readers(folder):
    """name -> (valid files, function that reads bytes)."""
    potential = DATA / "predict_acsf_cos"
    texts = {
        name: (potential / name).read_bytes()
        for name in ("input.nn", "scaling.data", "weights.001.data", "input.data")
    }
    write_clusters(folder / "small.extxyz", 3)
    dataset.write(folder / "data.h5", read_sources([str(folder / "small.extxyz")], report=lambda _: None))
    with_checkpoint = folder / "checkpoint.h5"
    old = checkpoint.read_checkpoint(DATA / "version_1" / "checkpoint.h5")
    best = old._replace(arrays={}, best_weights=old.potential.weights)
    checkpoint.write_checkpoint(with_checkpoint, best)
    toml = [
        old.config_text.encode(),
        *(path.read_bytes() for path in sorted((HERE.parents[1] / "jobs").glob("**/*.toml"))),
    ]

    def reading(name, read):
        def of(data):
            path = folder / name
            path.write_bytes(data)
            return read(path)

        return of

    def potential_with(name):
        broken = folder / f"potential-{name}"
        broken.mkdir()
        for file in ("input.nn", "scaling.data", "weights.001.data", "weights.008.data"):
            (broken / file).write_bytes((potential / file).read_bytes())

        def of(data):
            (broken / name).write_bytes(data)
            return read_potential(broken)

        return of

    def whole(path):
        found = checkpoint.read_checkpoint(path)
        checkpoint.read_summary(path)
        checkpoint.read_potential(path)
        return to_toml(read_config_text(found.config_text))

    def read_config_text(text):
        from mpnnp.config import parse_config

        return parse_config(text, "checkpoint")

    def beside_cell(path):
        (folder / "run-1.cell").write_text("0 0.0 9 0 0 0 9 0 0 0 9 729\n1 0.5 9 0 0 0 9 0 0 0 9 729\n")
        return sources(path)

    system = folder / "system"
    (system / "set.000").mkdir(parents=True)
    (system / "type_map.raw").write_text("O H\n")
    (system / "type.raw").write_text("0 1\n")
    np.save(system / "set.000" / "coord.npy", np.arange(12.0).reshape(2, 6))
    np.save(system / "set.000" / "box.npy", np.tile(9 * np.eye(3).ravel(), (2, 1)))

    def deepmd(name):
        def of(data):
            kept = (system / name).read_bytes()
            (system / name).write_bytes(data)
            try:
                return sources(system)
            finally:
                (system / name).write_bytes(kept)

        return of

    def translated():
        """A template that continues from weights, beside which it needs their scaling.data."""
        for file in (DATA / "train_energy").glob("*.data"):
            (folder / file.name).write_bytes(file.read_bytes())
        return reading("t.nn", translate)

    frames = (folder / "small.extxyz").read_bytes()
    training = (DATA / "train_energy" / "input.nn").read_bytes()
    both = [with_checkpoint.read_bytes(), (DATA / "version_1" / "checkpoint.h5").read_bytes()]
    sources = lambda path: read_sources([str(path)], report=lambda _: None)  # noqa: E731
    return {
        "input.data": ([texts["input.data"]], reading("input.data", sources)),
        "input.nn": (
            [texts["input.nn"], (DATA / "train_energy" / "input.nn").read_bytes()],
            potential_with("input.nn"),
        ),
        "scaling.data": ([texts["scaling.data"]], potential_with("scaling.data")),
        "weights": ([texts["weights.001.data"]], potential_with("weights.001.data")),
        "xyz dialects": (list(XYZ_DIALECTS), reading("y.xyz", sources)),
        "CP2K trajectory": ([CP2K_TRAJECTORY], reading("run-pos-1.xyz", beside_cell)),
        "CP2K output": ([CP2K_OUTPUT, CP2K_OUTPUT_2025], reading("cp2k.out", sources)),
        "OUTCAR": ([outcar([oxygen_and_hydrogen()]).encode()], reading("OUTCAR", sources)),
        "ML_AB": ([ml_ab([_stressed()]).encode()], reading("ML_AB", sources)),
        "XSF of aenet": ([AENET], reading("a.xsf", sources)),
        "vasprun.xml": ([VASPRUN.encode()], reading("vasprun.xml", sources)),
        "compressed": ([gzip.compress(frames, mtime=0)], reading("x.extxyz.gz", sources)),
        "data.weights": (
            [b"1\n2 0 1 # of forces\n0.5\n"],
            reading("data.weights", lambda path: read_weights(path, 3)),
        ),
        "DeePMD types": ([b"0 1\n"], deepmd("type.raw")),
        "DeePMD coordinates": (
            [(system / "set.000" / "coord.npy").read_bytes()],
            deepmd("set.000/coord.npy"),
        ),
        "translate": ([texts["input.nn"], training], translated()),
        "TOML": (toml, reading("c.toml", read_config)),
        "extxyz": ([frames], reading("x.extxyz", sources)),
        "data set": ([(folder / "data.h5").read_bytes()], reading("d.h5", sources)),
        "checkpoint": (both, reading("c.h5", whole)),
        "checkpoint, sealed again": (
            both[:1],
            reading("s.h5", lambda path: (path.write_bytes(resealed(path.read_bytes())), whole(path))),
        ),
    }


STYLES = {  # reader: lines that are comments, words whose case does not matter
    "input.data": (["# a comment", "! another"], ["begin", "end", "atom", "lattice", "energy"]),
    "extxyz": ([], ["Lattice", "Properties", "energy", "pbc"]),
}


class TooSlow(BaseException):
    pass


def limit_time():
    """SECONDS of CPU time for a file: an exception; three times that, in a library that does not come back:
    the end, and a traceback.
    """
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    end = int(time.process_time()) + 3 * SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (end, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def out_of_time(*_):
    raise TooSlow


def _seeded(number):
    """Decorator: other examples for each number, the same ones without."""
    return (lambda test: test) if number is None else of_seed(number)


def fuzz(bases, read, examples, seed=None):
    """Number of (files read, files refused). Raises the first error that is no MpnnpError."""
    return _read_all(changed(bases), read, examples, seed)


def fuzz_style(name, base, comments, keys, read, examples, seed=None):
    """Number of files whose numbers are those of `base`, and of those refused. Raises AssertionError where
    one reads differently.
    """
    expected = read(base).hash()

    def read_alike(data):
        assert read(data).hash() == expected, f"{name}: other numbers from {data[:2000]!r}"

    return _read_all(restyled(base, comments, keys), read_alike, examples, seed)


def _read_all(files, read, examples, seed):
    """Number of (files read, files refused) of a strategy of files."""
    counts = [0, 0]

    @_seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
    )
    @given(files)
    def one(data):
        limit_time()
        try:
            read(data)
            counts[0] += 1
        except MpnnpError:
            counts[1] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    one()
    return counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="other files than those that are always the same")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, out_of_time)
    faulthandler.register(signal.SIGXCPU, chain=True)
    warnings.simplefilter("ignore")
    refuse = lambda *_, **__: os.abort()  # noqa: E731  nobody may unpickle what a file says
    pickle.load = pickle.loads = refuse
    pickle.Unpickler = type("Unpickler", (), {"__init__": refuse})
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"files are written to {folder}", flush=True)
        for name, (bases, read) in readers(Path(folder)).items():
            if options.readers and name not in options.readers:
                continue
            for base in bases:
                try:
                    read(base)
                except MpnnpError as error:  # a template may name files that are not here
                    print(f"{name}: {error}")
            was_read, refused = fuzz(bases, read, options.examples, options.seed)
            total += was_read + refused
            print(f"{name}: {was_read + refused} files, {was_read} read, {refused} refused", flush=True)
            if name in STYLES:
                same, refused = fuzz_style(
                    name, bases[0], *STYLES[name], read, options.examples, options.seed
                )
                total += same + refused
                print(f"{name}, written otherwise: {same} the same numbers, {refused} refused", flush=True)
    print(f"{total} files in all, HDF5 {h5py.version.hdf5_version}")


if __name__ == "__main__":
    main()
