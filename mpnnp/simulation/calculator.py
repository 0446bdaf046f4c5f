"""The potential as a calculator of ASE: energy, forces, stress and what is known about their errors."""

import hashlib

import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols

from mpnnp.data.structure import Structure
from mpnnp.data.voigt import to_voigt
from mpnnp.errors import ConfigError, DataError, DynamicsError
from mpnnp.kernels.atomic_virials import virials_of_pairs
from mpnnp.kernels.jacobian import energy_rows
from mpnnp.kernels.jit import read_only
from mpnnp.kernels.packs import make_structures
from mpnnp.model.potential import Potential
from mpnnp.model.prediction import NO_PREDICTION
from mpnnp.model.spread import Place, predict_with_spread
from mpnnp.optimizers.posterior import has_covariance
from mpnnp.parallel import on_root, share, sum_in_place
from mpnnp.progress import counted
from mpnnp.simulation.member import Member
from mpnnp.simulation.pair_list import PairList, check_geometry
from mpnnp.training.checkpoint import is_checkpoint, load_potential, read_posterior, read_summary
from mpnnp.training.uncertainty import covariance_file, read_uncertainty

SKIN = 0.8  # Angstrom
STANDARD_DEVIATIONS = "energy_std", "forces_std"  # results, in the order of model.spread.Spread
NAMED = 3  # extrapolations in a message
MOST_SKIN = 10.0  # Angstrom; more is slower than no list


def split_names(text):
    """Paths of potentials from a text with commas between them. Raises ConfigError where one is empty."""
    names = text.split(",")
    if not all(name.strip() for name in names):
        raise ConfigError(
            f"'{text}': a name of a potential is empty; give a checkpoint or a folder of n2p2 files, several "
            "with one comma between them"
        )
    return names


def load_potentials(text, units=None):
    """Potentials of paths with commas between them; units: as of `Calculator`. Raises as load_potential."""
    return [load_potential(name, units) for name in split_names(text)]


class NoPrediction(DynamicsError):
    """Energy or forces of a geometry are not finite numbers."""


class Calculator(AseCalculator):
    """ASE calculator of a potential, or of several as an ensemble.

        atoms.calc = mpnnp.Calculator("runs/a/best.h5")

    potentials   path of a checkpoint or of a folder of n2p2 files, a Potential, or a list of these: then
                 results are means over the members, and energy_std (eV), forces_std (n, 3) their sample
                 standard deviations
    skin         Angstrom, of the list of neighbours
    max_extrapolations   raise DynamicsError when more symmetry functions than this, added up over all
                 evaluations, were outside their range of training
    uncertainty  standard deviations with every evaluation, not on request alone: for one checkpoint; raises
                 ConfigError if it has none
    comm         MPI communicator that shares out the atoms. Then every call is collective, and the geometry
                 of rank 0 is taken
    units        of folders of n2p2 files that do not state theirs, as in "eV Angstrom"; else Hartree and Bohr

    Results: energy, free_energy, energies (n,), forces (n, 3), stress (6,) where a direction is periodic and
    the cell has a volume, as slabs in vacuum have; eV, eV/Angstrom, eV/Angstrom^3. On request stresses (n, 6)
    of the atoms, whose sum is the stress (kernels.atomic_virials), for potentials without baseline; and, from
    one checkpoint of a Kalman filter (or the best.h5 beside it):
    energy_std (eV), forces_std (n, 3) standard deviations by the posterior of the weights, calibrated on
    labels that were not learned (training.calibration; `calibration.n_structure` is 0 if they are not), in
    less than three times the time without; and energy_kalman_std = energy_scale sqrt(h P h^T) in eV, with
    h = dE*/dw and the filter's covariance P of the weights, neither drawn nor calibrated.
    `virial` (3, 3) dE/dstrain, eV, of the last evaluation is known without a cell too.
    `extrapolations` counts those of the last evaluation, `extrapolations_in_all` those of all;
    `extrapolating()` names the last ones. An ensemble counts those of the member that has most.
    Raises DataError for an unknown element, CheckpointError or DataError for a bad file, DynamicsError for a
    geometry that has run away, NoPrediction (one of these) where two atoms are at one place.
    """

    name = "mpnnp"
    ignored_changes = {"initial_charges", "initial_magmoms"}

    def __init__(
        self,
        potentials,
        *,
        skin=SKIN,
        max_extrapolations=None,
        uncertainty=False,
        comm=None,
        units=None,
    ):
        super().__init__()
        if not (isinstance(skin, (int, float)) and 0 <= skin <= MOST_SKIN):
            raise ConfigError(f"skin = {skin!r}: must be from 0 to {MOST_SKIN:g} Angstrom")
        if max_extrapolations is not None and not max_extrapolations >= 0:
            raise ConfigError(f"max_extrapolations = {max_extrapolations!r}: must not be negative")
        given = list(potentials) if isinstance(potentials, (list, tuple)) else [potentials]
        if not given:
            raise ConfigError("Calculator: give at least one potential")
        self.potentials = [p if isinstance(p, Potential) else load_potential(p, units) for p in given]
        self._check_same_elements(given)
        self.members = [Member(p, self._same_functions(k)) for k, p in enumerate(self.potentials)]
        self.pair_list = self._new_pair_list(skin)
        self.comm, self.max_extrapolations = comm, max_extrapolations
        self.extrapolations = self.extrapolations_in_all = 0
        own = None if len(given) > 1 or isinstance(given[0], Potential) else given[0]
        self.kalman_path = own if own is not None and is_checkpoint(own) else None
        self.posterior_of = own if own is not None and covariance_file(own) else None
        self.posterior = self.known = None
        self.always_std = uncertainty
        if uncertainty and self.posterior_of is None and len(given) == 1:
            raise ConfigError(
                f"Calculator: {'the potential' if own is None else own} has no standard deviations: they "
                "come from the checkpoint.h5 of a run with the Kalman filter (or the best.h5 beside it), or "
                "from several potentials"
            )
        self.implemented_properties = self._properties()

    def _check_same_elements(self, given):
        """Raise DataError that names which of the potentials `given` is for other elements than the first."""
        first = self.potentials[0].elements
        for number, (path, p) in enumerate(zip(given, self.potentials), 1):
            if p.elements != first:
                name = f"potential {number}" if isinstance(path, Potential) else path
                raise DataError(
                    f"{name}: is for {_symbols(p.elements)}, "
                    f"the first potential for {_symbols(first)}: they are no ensemble"
                )

    def _properties(self):
        """Names of the results that there can be."""
        found = ["energy", "free_energy", "energies", "forces", "stress"]
        if not any(p.baseline for p in self.potentials):
            found.append("stresses")
        if len(self.potentials) > 1 or self.posterior_of is not None:
            found += STANDARD_DEVIATIONS
        if self.kalman_path is not None and has_covariance(read_summary(self.kalman_path).optimizer):
            found.append("energy_kalman_std")
        return found

    def _new_pair_list(self, skin):
        widest = max(self.members, key=lambda m: m.model.plan.reach[0])
        return PairList(widest.model.plan, skin)

    def __repr__(self):
        known = "; ".join(_symbols(p.elements) for p in self.potentials[:1])
        several = f"{len(self.potentials)} potentials for " if len(self.potentials) > 1 else ""
        return f"mpnnp.Calculator({several}{known}; {', '.join(self.implemented_properties)})"

    def __getstate__(self):
        """What a copy, or another process, begins with: neighbours are looked for anew."""
        return {**self.__dict__, "pair_list": self.pair_list.skin}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.pair_list = self._new_pair_list(state["pair_list"])

    @property
    def calibration(self):
        """training.calibration.Calibration of the standard deviations of one checkpoint. Collective at
        first.
        """
        return self._uncertainty().calibration

    def digest(self):
        """A hash of all that energies and forces depend on: Potential.digest, of members in any order."""
        return hashlib.sha256(" ".join(sorted(p.digest() for p in self.potentials)).encode()).hexdigest()

    def _uncertainty(self):
        """Members drawn from the posterior and their calibration, drawn once. Collective."""
        if self.known is None:
            self.known = (
                read_uncertainty(self.posterior_of)
                if self.comm is None
                else on_root(self.comm, read_uncertainty, self.posterior_of)
            )
        return self.known

    def _same_functions(self, k):
        """Number of the first member with the same symmetry functions as member k."""
        functions = [(p.functions.elements, p.functions.functions) for p in self.potentials[: k + 1]]
        return functions.index(functions[k])

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if atoms is not None:
            self.atoms = atoms.copy()
        with_std = self.posterior_of is not None and (
            self.always_std or any(name in properties for name in STANDARD_DEVIATIONS)
        )
        if system_changes or "energy" not in self.results:
            self.results = {}
            self._evaluate(self.atoms, with_std)
        elif with_std and "energy_std" not in self.results:
            self.results |= self._with_spread(self._place(self.atoms), known=True)[1]
        if "stresses" in properties and "stresses" in self.implemented_properties:
            self._add_stresses(self.atoms)
        if "energy_kalman_std" in properties and "energy_kalman_std" in self.implemented_properties:
            self.results["energy_kalman_std"] = self._kalman_std(self.atoms)

    def _evaluate(self, atoms, with_std):
        place, standard = self._place(atoms), {}
        if with_std:
            prediction, standard = self._with_spread(place, known=False)
            predictions = [prediction]
        else:
            predictions = [member.predict(place, self.members, self.comm) for member in self.members]
        predictions = self._with_baselines(predictions, place, atoms)
        self._count(place.element[place.first : place.first + len(place.pairs.start) - 1])
        self.virial = np.mean([p.virial for p in predictions], axis=0)
        if not all(p.is_finite() for p in predictions):
            raise NoPrediction(f"a structure of {counted(len(atoms), 'atom')}: {NO_PREDICTION}")
        self._check_limit()
        self.results = _results(predictions, _volume(place.cell, atoms.pbc))
        self.results |= standard

    def _with_baselines(self, predictions, place, atoms):
        """The predictions with the baselines of their potentials, each computed once, by rank 0."""
        baselines = {p.baseline: None for p in self.potentials if p.baseline}

        def add():
            try:
                structure = Structure(
                    numbers=atoms.numbers,
                    positions=place.positions,
                    cell=place.cell,
                    pbc=atoms.pbc,
                    source="the simulated structure",
                )
                return {baseline: baseline.of(structure) for baseline in baselines}
            except DataError as error:
                raise DynamicsError(str(error)) from None

        if not baselines:
            return predictions
        added = add() if self.comm is None else on_root(self.comm, add)
        return [
            prediction.plus(added[p.baseline]) if p.baseline else prediction
            for prediction, p in zip(predictions, self.potentials)
        ]

    def _with_spread(self, place, known):
        """Prediction, and the standard deviations as results of ASE; known: the member has the symmetry
        functions already. Collective.
        """
        uncertainty = self._uncertainty()
        prediction, spread = self._spread(place, uncertainty.deviations, known)
        return prediction, dict(zip(STANDARD_DEVIATIONS, uncertainty.calibration.calibrated(spread)))

    def spread(self, atoms, deviations):
        """Spread by deviations (n_member, n_weight) of the weights, of one potential. Collective."""
        return self._spread(self._place(atoms), deviations, known=False)[1]

    def _spread(self, place, deviations, known):
        member = self.members[0]
        G = np.array(member.G) if known else np.empty((len(place.pairs.start) - 1, member.n_max))
        found = predict_with_spread(member.predictor, deviations, place, G, known, self.comm)
        member.G = read_only(G)
        return found

    def _place(self, atoms):
        """This rank's atoms and their neighbours. Collective."""
        element = self._elements(atoms)
        positions, cell, pbc = self._geometry(atoms)
        mine = range(len(element)) if self.comm is None else share(len(element), self.comm)
        pairs = self.pair_list.update(element, positions, cell, pbc, mine.start, mine.stop)
        return Place(pairs, mine.start, element, read_only(positions), read_only(cell))

    def _elements(self, atoms):
        """(n_atom,) element indices. Raises DataError."""
        elements = np.array(self.potentials[0].elements)
        element = np.minimum(np.searchsorted(elements, atoms.numbers), len(elements) - 1)
        unknown = elements[element] != atoms.numbers
        if unknown.any():
            atom = int(np.argmax(unknown))
            raise DataError(
                f"atom {atom} is {chemical_symbols[atoms.numbers[atom]]}; "
                f"the potential knows {_symbols(elements)}"
            )
        return read_only(element.astype(np.int64))

    def _geometry(self, atoms):
        """Positions, cell, pbc: those of rank 0.

        Raises DynamicsError if no list of neighbours can be made for them.
        """
        positions, cell, pbc = atoms.get_positions(), np.array(atoms.cell), np.array(atoms.pbc)
        if self.comm is not None and self.comm.size > 1:
            both = np.concatenate([positions, cell])
            self.comm.Bcast(both, root=0)
            positions, cell = both[:-3].copy(), both[-3:].copy()
        check_geometry(positions, cell, pbc, self.pair_list.plan.reach[0])
        return positions, cell, pbc

    def _count(self, element):
        """Count the extrapolations of this evaluation."""
        counts = np.array([m.count(element) for m in self.members])
        if self.comm is not None:
            self.comm.Allreduce(counts.copy(), counts)
        self.extrapolations = int(counts.max())
        self.extrapolations_in_all += self.extrapolations
        self.worst = self.members[int(np.argmax(counts))]

    def _check_limit(self):
        if self.max_extrapolations is not None and self.extrapolations_in_all > self.max_extrapolations:
            last = "; ".join(str(e) for e in self.first_extrapolating(NAMED))
            raise DynamicsError(
                "symmetry functions were outside their range of training "
                f"{counted(self.extrapolations_in_all, 'time')}, more than max_extrapolations = "
                f"{self.max_extrapolations}; the last ones: {last}"
            )

    def extrapolating(self):
        """Extrapolations of the last evaluation, as a list (on this rank's atoms); none before the first."""
        if not self.extrapolations:
            return []
        mine = range(len(self.atoms)) if self.comm is None else share(len(self.atoms), self.comm)
        return self.worst.extrapolating(self._elements(self.atoms)[mine.start : mine.stop], mine.start)

    def first_extrapolating(self, n):
        """The first n of them on all ranks' atoms. Collective."""
        mine = self.extrapolating()[:n]
        return mine if self.comm is None else sum(self.comm.allgather(mine), [])[:n]

    def _add_stresses(self, atoms):
        """Stresses of the atoms, from the symmetry functions of the last evaluation. Collective."""
        place, total = self._place(atoms), np.zeros((len(atoms), 3, 3))
        volume = _volume(place.cell, atoms.pbc)
        if volume is None:
            return
        for member in self.members:
            part = np.empty_like(total)
            virials_of_pairs(*place, member.model, member.w, member.G, part)
            total += member.scale * part / len(self.members)
        sum_in_place(self.comm, total)
        self.results["stresses"] = to_voigt(total) / volume

    def _kalman_std(self, atoms):
        """energy_scale sqrt(h P h^T), eV, from the symmetry functions of the last evaluation. Collective.

        Rank 0 alone reads P, half of n^2 numbers.
        """
        member = self.members[0]
        if self.comm is None:
            return self._kalman_std_of(atoms, member.G)
        parts = self.comm.gather(member.G, root=0)
        return on_root(self.comm, lambda: self._kalman_std_of(atoms, np.concatenate(parts)))

    def _kalman_std_of(self, atoms, G):
        """The same from the symmetry functions G (n_atom, n_max) of all atoms."""
        if self.posterior is None:
            self.posterior = read_posterior(self.kalman_path)
        member, element = self.members[0], self._elements(atoms)
        structure = make_structures(
            [0, len(element)], element, atoms.get_positions(), np.array(atoms.cell), np.array(atoms.pbc)
        )
        row, value = np.empty((1, len(member.w))), np.empty(1)
        energy_rows(np.zeros(1, np.int64), structure, read_only(G), member.model, member.w, row, value)
        return member.scale * float(np.sqrt(self.posterior.variance(row)[0]))


def _volume(cell, pbc):
    """Angstrom^3 of a cell; None where no direction is periodic, or it has no volume."""
    return (abs(np.linalg.det(cell)) or None) if pbc.any() else None


def _results(predictions, volume):
    """ASE's results: of one prediction, or means and standard deviations of several.
    volume: Angstrom^3, None for no stress.
    """
    n = len(predictions)
    if n == 1:
        energy, energies, forces, virial = (
            getattr(predictions[0], name) for name in ("energy", "energies", "forces", "virial")
        )
        spread = {}
    else:
        energy, energies, forces, virial = (
            np.mean([getattr(p, name) for p in predictions], axis=0)
            for name in ("energy", "energies", "forces", "virial")
        )
        spread = {
            "energy_std": float(np.std([p.energy for p in predictions], ddof=1)),
            "forces_std": np.std([p.forces for p in predictions], axis=0, ddof=1),
        }
    results = {
        "energy": float(energy),
        "free_energy": float(energy),
        "energies": energies,
        "forces": forces,
        **spread,
    }
    if volume is not None:
        results["stress"] = to_voigt(virial) / volume
    return results


def _symbols(elements):
    return " ".join(chemical_symbols[z] for z in elements)
