"""Broken files for every reader: python tests/faults/fuzz.py [--examples 1000] [READER...]

Hypothesis changes the bytes of valid files, or makes them up; a reader must return something or raise an
MpnnpError. Anything else, more than 4 GiB of memory or more than 20 s for a file is a failure. Prints how
many files each reader was given. Unix only.
"""

import argparse
import os
import pickle
import resource
import signal
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import h5py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from small import write_clusters  # noqa: E402

from mpnnp import files as sealed  # noqa: E402
from mpnnp.config import read_config, to_toml  # noqa: E402
from mpnnp.data import dataset  # noqa: E402
from mpnnp.data.formats import read_sources  # noqa: E402
from mpnnp.errors import MpnnpError  # noqa: E402
from mpnnp.n2p2.potential_files import read_potential  # noqa: E402
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


def resealed(data):
    """The bytes of a sealed file with a seal that fits, so that the HDF5 library sees what was changed."""
    body = data[sealed.BLOCK :]
    line = f"mpnnp {len(data)} {zlib.crc32(body):08x}\n".encode()
    return line.ljust(sealed.BLOCK, b"\0") + body


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
    numbers = old.progress
    content = old._replace(progress=numbers, arrays={}, best_weights=old.potential.weights)
    checkpoint.write_checkpoint(with_checkpoint, content)
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
        "TOML": (toml, reading("c.toml", read_config)),
        "extxyz": ([(folder / "small.extxyz").read_bytes()], reading("x.extxyz", sources)),
        "data set": ([(folder / "data.h5").read_bytes()], reading("d.h5", sources)),
        "checkpoint": (both, reading("c.h5", whole)),
        "checkpoint, sealed again": (
            both[:1],
            reading("s.h5", lambda path: (path.write_bytes(resealed(path.read_bytes())), whole(path))),
        ),
    }


class TooSlow(BaseException):
    pass


def out_of_time(*_):
    raise TooSlow


def fuzz(name, bases, read, examples):
    """Number of (files read, files refused). Raises the first error that is no MpnnpError."""
    counts = [0, 0]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(bases))
    def one(data):
        signal.alarm(SECONDS)
        try:
            read(data)
            counts[0] += 1
        except MpnnpError:
            counts[1] += 1
        finally:
            signal.alarm(0)

    one()
    return counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--examples", type=int, default=1000)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, out_of_time)
    warnings.simplefilter("ignore")
    refuse = lambda *_, **__: os.abort()  # noqa: E731  nobody may unpickle what a file says
    pickle.load = pickle.loads = refuse
    pickle.Unpickler = type("Unpickler", (), {"__init__": refuse})
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (bases, read) in readers(Path(folder)).items():
            if options.readers and name not in options.readers:
                continue
            for base in bases:
                try:
                    read(base)
                except MpnnpError as error:  # a template may name files that are not here
                    print(f"{name}: {error}")
            was_read, refused = fuzz(name, bases, read, options.examples)
            total += was_read + refused
            print(f"{name}: {was_read + refused} files, {was_read} read, {refused} refused", flush=True)
    print(f"{total} files in all, HDF5 {h5py.version.hdf5_version}")


if __name__ == "__main__":
    main()
