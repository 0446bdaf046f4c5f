"""What a checkpoint holds, in words."""

from pathlib import Path

import numpy as np

from mpnnp.model.label_kinds import KINDS
from mpnnp.optimizers.posterior import has_covariance, numbers_stored
from mpnnp.progress import counted
from mpnnp.training.checkpoint import load_potential, read_summary
from mpnnp.training.history import of_checkpoint
from mpnnp.training.report import place_in_run, symbols
from mpnnp.units import ATOMIC, Units


def describe_checkpoint(path: str | Path) -> str:
    """What a checkpoint holds, as lines for people. Raises CheckpointError."""
    found = read_summary(path)
    p, progress, optimizer, curve = found.potential, found.progress, found.optimizer, found.curve
    lines = [f"checkpoint of mpnnp, elements {' '.join(symbols(p.elements))}", *_lines_of(p)]
    lines.append(f"state: {_where(progress)}, {counted(progress.get('update', 0), 'update')} in all")
    if "best" in progress:
        lines.append(
            f"best measure so far: {progress['best']:.6g}, after epoch "
            f"{progress.get('best_epoch', progress.get('epoch', 0))}"
        )
    for name, k in (("last", -1), ("best", _row_of(curve, progress.get("best_epoch")))):
        if len(curve.get("epoch", ())) and k is not None:
            lines.append(
                f"accuracy, {name}: {_accuracy_of_row({key: values[k] for key, values in curve.items()})}"
            )
    entries = of_checkpoint(found, path)
    lines.append("learned, one data set after another:" if entries else "learned: nothing yet")
    lines += [f"  {k}. {entry.in_words()}" for k, entry in enumerate(entries, 1)]
    if has_covariance(optimizer):
        n, stored = p.network.n_weight, numbers_stored(optimizer)
        lines.append(f"optimizer: ekf; P {n} x {n}: {stored} numbers stored, {stored * 8 / 1e6:.1f} MB")
    elif optimizer:
        lines.append(f"optimizer: {progress.get('optimizer', 'unknown')}")
    else:
        lines.append("optimizer: none (the potential alone; it cannot be resumed)")
    return "\n".join(lines)


def _where(progress):
    """Where the run stands, in words. A potential alone (best.h5, initial.h5) has the number of the epoch
    after or within which it was kept, other checkpoints that of the epoch under way.
    """
    epoch, done = progress.get("epoch", 0), progress.get("done")
    if done is None:
        return f"epoch {epoch}"
    return place_in_run(epoch, done) + (f", {counted(done, 'update')} into it" if done else "")


def describe_folder(path: str | Path, units: Units | str | None = None) -> str:
    """The same of a potential in a folder of n2p2 files. Raises DataError."""
    p = load_potential(path, units)
    return "\n".join([f"n2p2 files, elements {' '.join(symbols(p.elements))}", *_lines_of(p)])


def _lines_of(p):
    """What a Potential is, as lines."""
    yield f"weights: {p.network.n_weight}"
    for symbol, z, size, names in zip(
        symbols(p.elements), p.elements, p.network.sizes, p.network.activations
    ):
        kinds = [f.kind for f in p.functions.of(z)]
        counts = ", ".join(f"{kinds.count(kind)} of type {kind}" for kind in sorted(set(kinds)))
        net = f"{'-'.join(map(str, size))}, {' '.join(names[:-1]) or 'linear'}"
        yield f"  {symbol:2s} net {net}; {counted(len(kinds), 'symmetry function')} ({counts})"
    yield f"largest cutoff radius: {p.functions.r_c:.6g} A; scaling {p.scaling.kind}"
    references = ", ".join(
        f"{symbol} {energy:.6g}" for symbol, energy in zip(symbols(p.elements), p.atomic_energies)
    )
    yield f"atomic energies: {references} eV; mean energy {p.mean_energy:.6g} eV/atom"
    yield f"units of training: energy {p.energy_scale:.6g} eV, force {p.force_scale:.6g} eV/A"
    if p.baseline:
        yield f"baseline, added to what the nets predict: {p.baseline}"
    if p.units != ATOMIC:
        yield f"units of its n2p2 files: {p.units}"


def _row_of(curve, epoch):
    """Index of the learning curve's last row of an epoch; None if there is none."""
    rows = np.flatnonzero(curve.get("epoch", np.zeros(0)) == epoch)
    return rows[-1] if len(rows) else None


def _accuracy_of_row(row):
    errors = ", ".join(
        f"{name} {row[f'{name}_rmse_train']:.4g} | {row[f'{name}_rmse_validation']:.4g} {kind.short_unit}"
        for name, kind in KINDS.items()
        if kind.always
    )
    return f"epoch {row['epoch']:.0f}, RMSE training | validation {errors}"
