"""What pair_style mpnnp of LAMMPS (pair_mpnnp.cpp) calls: potentials on the atoms and neighbours of one rank.

The kernels of molecular dynamics fit as they are: ghosts are atoms beyond the first n_own, no pair needs an
image, and forces on ghosts go back to LAMMPS, which adds them up. All numbers are in eV and Angstrom; MPI is
LAMMPS's affair.
"""

import ctypes
import math
from ctypes import c_char, c_char_p, c_double, c_int, c_int64, c_void_p

from mpnnp import environment

environment.prepare()  # before numpy is imported

import numpy as np  # noqa: E402
from ase.data import chemical_symbols  # noqa: E402

from mpnnp.errors import ConfigError  # noqa: E402
from mpnnp.kernels.atomic_virials import virials_of_pairs  # noqa: E402
from mpnnp.kernels.jit import CACHE_FOLDER, read_only  # noqa: E402
from mpnnp.kernels.pairs import Pairs  # noqa: E402
from mpnnp.model.spread import Place  # noqa: E402
from mpnnp.simulation.calculator import Calculator, load_potentials  # noqa: E402

MESSAGE = 4096
NAMED = 3  # extrapolations in a message
COUNTS = (
    "n_own",
    "n_all",
    "n_pair",
    "new_list",
    "want_members",
    "want_counts",
    "want_virials",
    "n_member",
    "new_kernels",
    "overlay",
    "worst",
)
INPUTS = ("x", "element", "start", "neighbour")
OUTPUTS = (
    "energies",
    "forces",
    "virial",
    "virials",
    "member_energy",
    "member_forces",
    "member_counts",
    "counts",
)


class Exchange(ctypes.Structure):
    """The struct of the same name in pair_mpnnp.cpp, where the fields are described."""

    _fields_ = [
        *((name, c_int64) for name in COUNTS),
        ("cutoff", c_double),
        *((name, c_void_p) for name in INPUTS + OUTPUTS),
        ("symbols", c_char * 512),
        ("message", c_char * MESSAGE),
    ]


OPEN = ctypes.CFUNCTYPE(c_int, c_char_p, ctypes.POINTER(Exchange), ctypes.POINTER(c_int64))
CALL = ctypes.CFUNCTYPE(c_int, c_int64, ctypes.POINTER(Exchange))
CLOSE = ctypes.CFUNCTYPE(None, c_int64)


class Functions(ctypes.Structure):
    """The struct of the same name in pair_mpnnp.cpp."""

    _fields_ = [
        ("open", OPEN),
        ("warm_up", CALL),
        ("compute", CALL),
        ("name_extrapolations", CALL),
        ("close", CLOSE),
    ]


opened = {}  # handle -> PairStyle
kept = []  # functions that C++ holds pointers to


def connect(address):
    """Write the functions to the C++ struct Functions at this address."""
    functions = Functions(
        OPEN(_open), CALL(_warm_up), CALL(_compute), CALL(_name_extrapolations), CLOSE(_close)
    )
    kept.append(functions)
    ctypes.memmove(address, ctypes.addressof(functions), ctypes.sizeof(functions))


def _open(names, exchange, handle):
    def act(e):
        pair_style = PairStyle(names.decode(), bool(e.overlay))
        number = max(opened, default=0) + 1
        opened[number], handle[0] = pair_style, number
        pair_style.describe(e)

    return _guarded(act, exchange)


def _warm_up(handle, exchange):
    return _guarded(lambda e: opened[handle].warm_up(), exchange)


def _compute(handle, exchange):
    return _guarded(lambda e: opened[handle].compute(e), exchange)


def _name_extrapolations(handle, exchange):
    return _guarded(lambda e: _say(e, "; ".join(opened[handle].name_extrapolations(e.worst))), exchange)


def _close(handle):
    opened.pop(handle, None)


def _guarded(act, exchange):
    """0, or 1 with a message for LAMMPS: no exception may reach C++."""
    try:
        act(exchange[0])
        return 0
    except BaseException as error:
        expected = type(error).__module__ == "mpnnp.errors"
        _say(exchange[0], str(error) if expected else f"{type(error).__name__}: {error}{_origin(error)}")
        return 1


def _say(e, text):
    e.message = text.encode()[: MESSAGE - 1]


def _origin(error):
    """Where an unexpected error comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"


class PairStyle:
    """One potential, or several with commas between their paths, as one instance of the pair style."""

    def __init__(self, names, overlay=False):
        """overlay: other pair styles add the baselines of the potentials.

        Raises DataError or CheckpointError naming a file that is none, ConfigError for an empty name and for
        baselines that no one would add.
        """
        potentials = load_potentials(names)
        check_baselines(potentials, overlay)
        self.members = Calculator(potentials).members
        self.elements = potentials[0].elements
        self.cell = read_only(np.eye(3))  # no image is ever used
        self.pairs = None

    def describe(self, e):
        reach = max(m.model.plan.reach[0] for m in self.members)
        e.cutoff, e.n_member = float(np.ceil(reach * 1e6) / 1e6), len(self.members)
        e.symbols = " ".join(chemical_symbols[z] for z in self.elements).encode()
        e.new_kernels = CACHE_FOLDER is None or not any(CACHE_FOLDER.rglob("pairs.*.nbi"))

    def warm_up(self):
        """Compile, or load, the kernels: a pair of atoms that no one sees."""
        e, arrays = make_exchange([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 0], [[1], [0]], len(self.members))
        e.want_virials = 1
        self.compute(e)
        self.pairs = None
        return arrays

    def compute(self, e):
        """Fill energies, forces, virial and what else is wanted of this Exchange."""
        place = self._place(e)
        n_own, n_member = e.n_own, len(self.members)
        energies, forces, virial = np.zeros(n_own), array(e.forces, (e.n_all, 3)), np.zeros((3, 3))
        for k, member in enumerate(self.members):
            part_energies, part_forces = np.empty(n_own), np.empty((e.n_all, 3))
            part_virial = np.empty((3, 3))
            member.compute(place, self.members, part_energies, part_forces, part_virial)
            part_energies *= member.scale
            part_energies += member.reference[self.element[:n_own]]
            part_forces *= member.scale
            if e.want_members:
                array(e.member_energy, (n_member,))[k] = part_energies.sum()
                array(e.member_forces, (e.n_all, n_member, 3))[:, k] = part_forces
            energies += part_energies
            forces += part_forces
            virial += member.scale * part_virial
        forces /= n_member
        array(e.energies, (n_own,))[:] = energies / n_member
        array(e.virial, (3, 3))[:] = virial / n_member
        if e.want_virials:
            self._add_virials(e, place)
        own = self.element[:n_own]
        array(e.member_counts, (n_member,))[:] = [member.count(own) for member in self.members]
        if e.want_counts:
            array(e.counts, (n_member, n_own))[:] = [member.count_each(own) for member in self.members]

    def _place(self, e):
        """Pairs, first atom, elements, positions and cell, as the kernels take them."""
        if e.new_list or self.pairs is None:
            self.element = read_only(array(e.element, (e.n_all,), np.int64).copy())
            start = array(e.start, (e.n_own + 1,), np.int64).copy()
            neighbour = array(e.neighbour, (e.n_pair,), np.int32).copy()
            self.pairs = Pairs(start, neighbour, np.zeros((e.n_pair, 3), np.int32))
        return Place(self.pairs, 0, self.element, read_only(array(e.x, (e.n_all, 3))), self.cell)

    def _add_virials(self, e, place):
        total = array(e.virials, (e.n_all, 3, 3))
        for member in self.members:
            part = np.empty((e.n_all, 3, 3))
            virials_of_pairs(*place, member.model, member.w, member.G, part)
            total += part * (member.scale / len(self.members))

    def name_extrapolations(self, k):
        """Some of member k in the last evaluation, as texts."""
        member = self.members[k]
        found = member.extrapolating(self.element[: len(member.G)], 0)[:NAMED]
        return [f"{x.function} is {x.value:.6g}, in training {x.low:.6g} to {x.high:.6g}" for x in found]


def check_baselines(potentials, overlay):
    """Raise ConfigError unless exactly one adds the baselines: no one would, or an ensemble has several."""
    found = {p.baseline for p in potentials}
    if len(found) > 1:
        raise ConfigError("the potentials have different baselines: they are no ensemble in LAMMPS")
    baseline = found.pop()
    if baseline and not overlay:
        symbols = [chemical_symbols[z] for z in potentials[0].elements]
        styles = " ".join(term.lammps_pairs(symbols)[0] for term in baseline.terms)
        raise ConfigError(
            f"the potential has a baseline ({baseline}), which LAMMPS must add: pair_style hybrid/overlay "
            f"mpnnp POTENTIAL baseline overlay {styles}; mpnnp export --lammps writes all lines"
        )
    if overlay and not baseline:
        raise ConfigError("'baseline overlay' is for potentials with a baseline; this one has none")


def array(address, shape, kind=np.float64):
    """The numbers at an address of C++, as an array that shares its memory."""
    n = math.prod(shape)
    if n == 0:
        return np.empty(shape, kind)
    return np.ndarray(shape, kind, (c_char * (n * np.dtype(kind).itemsize)).from_address(address))


def make_exchange(x, element, neighbours, n_member=1):
    """(Exchange, arrays by name) of atoms x (n_all, 3), their elements, neighbours of the first of them.

    The exchange points to the arrays: keep them as long as it is used.
    """
    n_all, n_own = len(x), len(neighbours)
    start = np.concatenate([[0], np.cumsum([len(n) for n in neighbours])]).astype(np.int64)
    arrays = {
        "x": np.ascontiguousarray(x, float),
        "element": np.ascontiguousarray(element, np.int64),
        "start": start,
        "neighbour": np.array([j for n in neighbours for j in n], np.int32),
        "energies": np.zeros(n_own),
        "forces": np.zeros((n_all, 3)),
        "virial": np.zeros((3, 3)),
        "virials": np.zeros((n_all, 3, 3)),
        "member_energy": np.zeros(n_member),
        "member_forces": np.zeros((n_all, n_member, 3)),
        "member_counts": np.zeros(n_member),
        "counts": np.zeros((n_member, n_own)),
    }
    e = Exchange(n_own=n_own, n_all=n_all, n_pair=int(start[-1]), new_list=1, n_member=n_member)
    for name, values in arrays.items():
        setattr(e, name, values.ctypes.data)
    return e, arrays
