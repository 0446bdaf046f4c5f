"""Where a data set lies: a histogram of its structures over density and energy per atom
(J. Chem. Phys. 155, 204108, Fig. 2).
"""

import numpy as np

from mpnnp.data.ranges import densities
from mpnnp.errors import DataError
from mpnnp.figures import density_colours, style


def energy_density(dataset, bins=40):
    """(counts (bins, bins), density edges g/cm^3, energy edges eV/atom) of the periodic,
    labelled structures of a Dataset.

    Energies are relative to their mean. Raises DataError if there are none.
    """
    used = np.isfinite(dataset.energy) & dataset.pbc.all(axis=1)
    if not used.any():
        raise DataError("no structure has a periodic cell and an energy")
    density = densities(dataset)[used]
    energy = dataset.energy[used] / dataset.n_atom[used]
    return np.histogram2d(density, energy - energy.mean(), bins=bins)


def columns(counts, density, energy):
    """Table for a CSV: one row for each cell that holds structures."""
    i, j = np.nonzero(counts)
    density, energy = (0.5 * (edges[:-1] + edges[1:]) for edges in (density, energy))  # middles of the cells
    return {"density_g_cm3": density[i], "energy_ev_per_atom": energy[j], "structures": counts[i, j]}


@style()
def draw(picture, axis, counts, density, energy):
    shown = np.where(counts > 0, counts, np.nan).T
    image = axis.pcolormesh(density, 1000.0 * energy, shown, cmap=density_colours())
    picture.colorbar(image, ax=axis, label="structures")
    axis.set(xlabel="density (g/cm³)", ylabel="energy per atom (meV),\nrelative to the mean")
