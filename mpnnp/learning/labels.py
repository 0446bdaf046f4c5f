"""Labels for chosen frames: from a calculator, frame by frame, or from files that a batch job leaves."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpnnp.data import dataset as datasets
from mpnnp.data.dataset import Dataset
from mpnnp.data.extxyz import write_extxyz
from mpnnp.data.structure import Structure
from mpnnp.errors import DataError, Interrupted
from mpnnp.files import write_text
from mpnnp.learning.given import Keys, read_labels
from mpnnp.learning.settings import LabelBy
from mpnnp.parallel import Comm, agree, on_root
from mpnnp.progress import AnyLog, Progress, counted
from mpnnp.simulation.labelling import labels_of, make_labeller

WANTED, GIVEN, GIVEN_FOLDER = "to-label.extxyz", "labelled.extxyz", "labels"
NO_KEYS: Keys = {}
COMPLETE = "labels-complete"  # a file of this name says that no more labels will come
SAME = 1e-3  # Angstrom: positions of a frame and of its label may differ by this, from rounding in files


def by_calculator(chosen: Dataset, how: LabelBy, folder: Path, comm: Comm, log: AnyLog) -> Dataset:
    """The frames that could be labelled, with labels, on every rank; each is kept in `folder` as soon as it
    has them. Collective.

    A frame at which the calculator fails is left out, and not tried again by the same one. Raises DataError
    if it fails at all of them, which are then tried again at the next start: what it needs may be there.
    """
    calculator = agree(comm, make_labeller, how.by, None, comm)

    def begin():
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("frame-*.failed"):
            if path.read_text(encoding="utf-8").partition("\n")[0] != how.by:
                path.unlink()

    on_root(comm, begin)

    def label_mine():
        with Progress(log, "labelling frame", len(chosen)) as progress:
            for k in range(comm.rank, len(chosen), comm.size):
                done, failed = folder / f"frame-{k:03d}.h5", folder / f"frame-{k:03d}.failed"
                if not done.exists() and not failed.exists():
                    try:
                        labelled = replace(chosen[k], **labels_of(chosen[k], calculator))
                        datasets.write(done, Dataset.from_structures([labelled]))
                    except DataError as error:
                        write_text(failed, f"{how.by}\n{error}\n")
                progress.update(min(k + comm.size, len(chosen)))

    agree(comm, label_mine)
    comm.Barrier()

    def collect():
        failed = sorted(folder.glob("frame-*.failed"))
        failures = [path.read_text(encoding="utf-8").partition("\n")[2].strip() for path in failed]
        found = [datasets.read(path) for path in sorted(folder.glob("frame-*.h5"))]
        if not found:
            for path in failed:
                path.unlink()
            raise DataError(
                f"label.by = {how.by}: none of {counted(len(chosen), 'frame')} could be labelled, the first "
                f"because of {failures[0]}; all are tried again when the same command is started again"
            )
        for failure in failures:
            log.warn(f"left out: {failure}")
        return datasets.concatenate(found)

    return on_root(comm, collect)


def by_files(chosen: Dataset, how: LabelBy, folder: Path, log: AnyLog, keys: Keys = NO_KEYS) -> Dataset:
    """The frames with the labels that lie in `folder`: rank 0.

    keys  names of labels of the data that are learned from
    Raises Interrupted, with what is wanted, while labels are missing, and DataError naming file and frame for
    labels of something else, or where no more will come and there is none. Nothing that lies there is
    changed.
    """
    wanted, sources = folder / WANTED, [folder / GIVEN, folder / GIVEN_FOLDER]
    if not wanted.exists():
        write_extxyz(wanted, chosen)
    given = [d for source in sources if (d := read_labels(source, how.units, keys, log)) is not None]
    labels = match(chosen, datasets.concatenate(given)) if given else [None] * len(chosen)
    missing = [k for k, found in enumerate(labels) if found is None]
    if missing and (folder / COMPLETE).exists():
        if len(missing) == len(chosen):
            raise DataError(
                f"{folder / COMPLETE}: says that no more labels will come, but there is none for any of "
                f"the {counted(len(chosen), 'frame')} in {wanted}: take the file away and give labels, as "
                f"{folder / GIVEN} or as outputs in {folder / GIVEN_FOLDER}/"
            )
        log.warn(f"left out: {counted(len(missing), 'frame')} without labels, as {folder / COMPLETE} says")
    elif missing:
        n, few = len(chosen) - len(missing), ", ".join(map(str, missing[:20]))
        are = "is frame" if len(missing) == 1 else "are frames"
        so_far = f"{n} of {len(chosen)} are there, missing {are} {few} (from 0)" if n else "none is there yet"
        raise Interrupted(
            f"labels are wanted: energies and forces of the {counted(len(chosen), 'frame')} in {wanted}, "
            f"as {folder / GIVEN} or as outputs in {folder / GIVEN_FOLDER}/; {so_far}; "
            f"{f'an empty file {folder / COMPLETE} says that no more will come; ' if n else ''}"
            "then start the same command again"
        )
    return Dataset.from_structures([s for s in labels if s is not None])


def match(chosen: Dataset, given: Dataset) -> Sequence[Structure | None]:
    """For each chosen frame the given one of the same geometry, with the chosen positions and its own labels,
    whatever the order of its atoms; None where there is none.

    Raises DataError for a frame that is none of the chosen ones, or has no energy or not all forces.
    """
    found: list[Structure | None] = [None] * len(chosen)
    wanted = list(chosen)
    for g in range(len(given)):
        s = given[g]
        same = {k: order for k, here in enumerate(wanted) if (order := order_of(here, s)) is not None}
        if not same:
            raise DataError(
                f"{given.name(g)}: is none of the frames that were asked for (other atoms, cell or positions "
                f"by more than {SAME:g} Angstrom); nothing is lost: take it away, or replace it"
            )
        if not (np.isfinite(s.energy) and np.isfinite(s.forces).all()):
            raise DataError(f"{given.name(g)}: has no energy, or not all forces: both are needed")
        for k, order in same.items():
            found[k] = replace(wanted[k], energy=s.energy, forces=s.forces[order], stress=s.stress)
    return found


def order_of(a: Structure, b: Structure) -> np.ndarray | None:
    """(n_atom,) for each atom of `a` the atom of `b` that is the same, up to lattice vectors and rounding;
    None if these are two geometries, or if it cannot be told which atom is which.
    """
    if not np.array_equal(np.sort(a.numbers), np.sort(b.numbers)) or not np.array_equal(a.pbc, b.pbc):
        return None
    if np.abs(a.cell - b.cell).max() > SAME:
        return None
    cell = np.where(a.pbc[:, None], a.cell, np.eye(3) * 1e6)
    inverse = np.linalg.inv(cell)

    def near(i, j):
        d = b.positions[j] - a.positions[i]
        if a.pbc.any():
            d -= np.round(d @ inverse) @ cell
        return np.abs(d).max(axis=1) < SAME

    everyone = np.arange(len(a.numbers))
    if np.array_equal(a.numbers, b.numbers) and near(everyone, everyone).all():
        return everyone
    order = np.empty(len(everyone), np.int64)
    for i in everyone:
        of_element = np.flatnonzero(b.numbers == a.numbers[i])
        there = of_element[near(i, of_element)]
        if len(there) != 1:
            return None
        order[i] = there[0]
    return order if np.array_equal(np.sort(order), everyone) else None


def put_away(folder: Path, target: Path) -> None:
    """Move what was given to the folder of its round; what is not there any more was moved before."""
    for name in (WANTED, GIVEN, GIVEN_FOLDER, COMPLETE):
        if (folder / name).exists():
            os.replace(folder / name, target / name)


def without_large_forces(labelled: Dataset, limit: float, log: AnyLog) -> Dataset:
    """The frames whose forces are all below a limit, eV/Angstrom. Raises DataError if none is."""
    largest = np.maximum.reduceat(np.abs(labelled.forces).max(axis=1), labelled.start[:-1])
    keep = largest <= limit
    if keep.all():
        return labelled
    if not keep.any():
        raise DataError(
            f"all {len(labelled)} labelled frames have forces above label.max_force = {limit:g} eV/Angstrom: "
            f"the largest is {largest.max():.4g}, that of the best frame {largest.min():.4g}; are the labels "
            "in these units? Raise label.max_force, or give other labels, and start the same command again"
        )
    log.warn(
        f"left out: {counted(int((~keep).sum()), 'frame')} with forces up to {largest.max():.3g} eV/Angstrom"
    )
    return labelled.take(keep)
