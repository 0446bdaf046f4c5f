"""Neighbours of one atom, all images, sorted by element, as rows for the vector loops.

Rows are kept in chunks: number n of a list stands in column n % WIDTH of chunk n // WIDTH, and the rows of a
chunk are STRIDE numbers apart. So the distance between two rows is a constant of the compiled code, whatever
the number of neighbours.
"""

import math
from typing import NamedTuple

import numpy as np

from mpnnp.kernels.elementwise import aligned_rows, row_cutoff
from mpnnp.kernels.jit import FASTMATH, kernel

WIDTH = np.uintp(512)  # columns of a chunk
STRIDE = np.uintp(600)  # room for reading one vector past the end; rows do not fall on the same cache lines
FIRST_CAPACITY = 256  # of lists; they grow
MARGIN = 1e-6  # Angstrom; what rounding may do to a distance in the search
PX, PY, PZ, FX, FY, FZ, N_ATOM_ROW = (np.uintp(k) * STRIDE for k in range(7))
UX, UY, UZ, N0, N1, N2, INSIDE, N_IMAGE_ROW = (np.uintp(k) * STRIDE for k in range(8))
N_BIT = 52  # of a number, for images
# FC: fc, fc'/r of each cutoff follow
X, Y, Z, R2, R, RI, OWN, KX, KY, KZ, SELF, FC = (np.uintp(k) * STRIDE for k in range(12))


class List(NamedTuple):
    """Neighbours of one atom, as found and as sorted; `capacity` entries fit."""

    found: np.ndarray  # (capacity, 3) vectors from the atom to its neighbours, Angstrom; by atom, then image
    found_atom: np.ndarray  # (capacity,) int64
    # (capacity, 3) int64 how many cell vectors the image is away from the atom as given
    found_image: np.ndarray
    # (capacity,) int64, sorted by element; within one, those within reach of angular functions first
    atom: np.ndarray
    # (n_element+1, 3) int64 first, end of those within reach of angular functions, end; last line:
    # of all elements
    part: np.ndarray
    # (n_element, 2) int64 number of neighbours in each part, then the place of the next one
    next: np.ndarray
    # chunks of rows X, Y, Z, R2 = r^2, R, RI = 1/r; gradient: OWN r + K; SELF 0 for images of the centre;
    # fc, fc'/r ...
    rows: np.ndarray


@kernel(makes_arrays=True)
def make_list(capacity, plan):
    n_element = plan.z.shape[0]
    n_chunk = capacity // np.int64(WIDTH) + 2
    rows = aligned_rows(n_chunk * np.int64(chunk_size(plan)))
    rows[:] = 1.0
    return List(
        np.empty((capacity, 3)),
        np.empty(capacity, np.int64),
        np.empty((capacity, 3), np.int64),
        np.empty(capacity, np.int64),
        np.zeros((n_element + 1, 3), np.int64),
        np.empty((n_element, 2), np.int64),
        rows,
    )


@kernel(forceinline=True)
def chunk_size(plan):
    """Numbers in a chunk of neighbour rows; the rows of a window of compact.py take the place of a cutoff."""
    return FC + np.uintp(2 * max(plan.cutoff.shape[0], 1)) * STRIDE


@kernel(forceinline=True)
def place(n, plan):
    """Offset of column n of a neighbour list in its rows."""
    n = np.uintp(n)
    return (n // WIDTH) * chunk_size(plan) + n % WIDTH


@kernel
def pack_atoms(positions, inverse, pbc, atoms):
    """Chunks of rows x, y, z and fractional coordinates (0 where not periodic) of all atoms."""
    for i in range(positions.shape[0]):
        o = np.uintp(i) // WIDTH * N_ATOM_ROW + np.uintp(i) % WIDTH
        for d in range(3):
            f = 0.0
            if pbc[d]:
                f = (
                    positions[i, 0] * inverse[0, d]
                    + positions[i, 1] * inverse[1, d]
                    + positions[i, 2] * inverse[2, d]
                )
            atoms[o + np.uintp(d) * STRIDE] = positions[i, d]
            atoms[o + FX + np.uintp(d) * STRIDE] = f


@kernel(fastmath={"contract", "nsz"})
def first_images(atoms, o, n, x, y, z, fx, fy, fz, cell, reach, image):
    """Of n atoms in the chunk at o the first image that may be within reach (3,) of a point (x, y, z),
    fractional (fx, fy, fz): N0, N1, N2, how many cell vectors it is away from the atom as given, and UX, UY,
    UZ, the vector to it.
    """
    c00, c01, c02 = cell[0, 0], cell[0, 1], cell[0, 2]
    c10, c11, c12 = cell[1, 0], cell[1, 1], cell[1, 2]
    c20, c21, c22 = cell[2, 0], cell[2, 1], cell[2, 2]
    e0, e1, e2 = fx - reach[0], fy - reach[1], fz - reach[2]
    for t in range(n):
        n0 = np.ceil(e0 - atoms[o + FX + t])
        n1 = np.ceil(e1 - atoms[o + FY + t])
        n2 = np.ceil(e2 - atoms[o + FZ + t])
        image[N0 + t] = n0
        image[N1 + t] = n1
        image[N2 + t] = n2
        image[UX + t] = atoms[o + PX + t] - x + n0 * c00 + n1 * c10 + n2 * c20
        image[UY + t] = atoms[o + PY + t] - y + n0 * c01 + n1 * c11 + n2 * c21
        image[UZ + t] = atoms[o + PZ + t] - z + n0 * c02 + n1 * c12 + n2 * c22


@kernel(forceinline=True)
def moved(cell, n0, n1, n2, d):
    """Component d of n cell vectors."""
    return n0 * cell[0, d] + n1 * cell[1, d] + n2 * cell[2, d]


@kernel
def find_inside(n, number, cell, r_c2, image):
    """INSIDE of n atoms: which of their images, `number` (3,) from the first one on in each direction, are
    inside the cutoff; bit 0 is the first one.
    """
    for t in range(n):
        image[INSIDE + t] = 0.0
    bit = 1.0
    for b0 in range(number[0]):
        for b1 in range(number[1]):
            for b2 in range(number[2]):
                x, y, z = moved(cell, b0, b1, b2, 0), moved(cell, b0, b1, b2, 1), moved(cell, b0, b1, b2, 2)
                add_inside(n, x, y, z, r_c2, bit, image)
                bit *= 2.0


@kernel(fastmath={"contract", "nsz"})
def add_inside(n, x, y, z, r_c2, bit, image):
    """Add `bit` to INSIDE where the image at (x, y, z) from the first one is inside."""
    for t in range(n):
        u, v, w = image[UX + t] + x, image[UY + t] + y, image[UZ + t] + z
        image[INSIDE + t] += bit if u * u + v * v + w * w < r_c2 else 0.0


@kernel(forceinline=True)
def reach_along(d, r_c, inverse, pbc):
    """r_c in heights of the cell along its vector d, which no fractional distance of a neighbour exceeds;
    0 if it is not periodic.
    """
    square = inverse[0, d] * inverse[0, d] + inverse[1, d] * inverse[1, d] + inverse[2, d] * inverse[2, d]
    return r_c * math.sqrt(square) if pbc[d] else 0.0


@kernel
def search(atoms, n_atom, i, cell, inverse, pbc, r_c, image, out):
    """Find what may lie within r_c of atom i, by atom and image;
    returns its number, which may exceed what fits into `out` (List).
    """
    r_c = r_c + MARGIN
    reach = (
        reach_along(0, r_c, inverse, pbc),
        reach_along(1, r_c, inverse, pbc),
        reach_along(2, r_c, inverse, pbc),
    )
    # integers in an interval of the length 2 reach
    number = (np.int64(2.0 * reach[0]) + 1, np.int64(2.0 * reach[1]) + 1, np.int64(2.0 * reach[2]) + 1)
    few = number[0] * number[1] * number[2] <= N_BIT
    home = np.uintp(i) // WIDTH * N_ATOM_ROW + np.uintp(i) % WIDTH
    x, y, z = atoms[home + PX], atoms[home + PY], atoms[home + PZ]
    fx, fy, fz = atoms[home + FX], atoms[home + FY], atoms[home + FZ]
    r_c2, n = r_c * r_c, 0
    for first in range(0, n_atom, np.int64(WIDTH)):
        o = np.uintp(first) // WIDTH * N_ATOM_ROW
        n_here = min(n_atom - first, np.int64(WIDTH))
        first_images(atoms, o, np.uintp(n_here), x, y, z, fx, fy, fz, cell, reach, image)
        if few:
            find_inside(np.uintp(n_here), number, cell, r_c2, image)
        for k in range(n_here):
            t, j = np.uintp(k), first + k
            if not few or image[INSIDE + t] > 0.0:
                n = note_images(t, j, j == i, few, number, cell, r_c2, image, n, out)
    return n


@kernel
def note_images(t, j, itself, few, number, cell, r_c2, image, n, out):
    """Note the images of atom j inside the cutoff, in order; n are noted before, returned is n with them."""
    inside = np.int64(image[INSIDE + t]) if few else 0
    n0, n1, n2 = np.int64(image[N0 + t]), np.int64(image[N1 + t]), np.int64(image[N2 + t])
    for b0 in range(number[0]):
        for b1 in range(number[1]):
            for b2 in range(number[2]):
                if few:
                    here = inside & 1
                    inside >>= 1
                else:
                    u = image[UX + t] + moved(cell, b0, b1, b2, 0)
                    v = image[UY + t] + moved(cell, b0, b1, b2, 1)
                    w = image[UZ + t] + moved(cell, b0, b1, b2, 2)
                    here = np.int64(u * u + v * v + w * w < r_c2)
                if not here or (itself and n0 + b0 == 0 and n1 + b1 == 0 and n2 + b2 == 0):
                    continue
                if n < out.found_atom.shape[0]:
                    out.found_atom[n] = j
                    out.found_image[n, 0], out.found_image[n, 1], out.found_image[n, 2] = (
                        n0 + b0,
                        n1 + b1,
                        n2 + b2,
                    )
                n += 1
    return n


@kernel
def measure(i, first, last, atom, image, positions, cell, r_c2, out):
    """Write to `out` (List) the vectors shorter than r_c from atom i to the images of atoms in lines first
    to last - 1; their number.

    atom, image  (n, ) and (n, 3) integers; may be those of `out`. Always the same operations: whoever found a
                 pair, and when, the same bits.
    """
    found, found_atom, n = out.found, out.found_atom, 0
    px, py, pz = positions[i, 0], positions[i, 1], positions[i, 2]
    for k in range(first, last):
        j, n0, n1, n2 = np.int64(atom[k]), float(image[k, 0]), float(image[k, 1]), float(image[k, 2])
        x = (positions[j, 0] - px) + (n0 * cell[0, 0] + n1 * cell[1, 0] + n2 * cell[2, 0])
        y = (positions[j, 1] - py) + (n0 * cell[0, 1] + n1 * cell[1, 1] + n2 * cell[2, 1])
        z = (positions[j, 2] - pz) + (n0 * cell[0, 2] + n1 * cell[1, 2] + n2 * cell[2, 2])
        if x * x + y * y + z * z < r_c2:
            found[n, 0], found[n, 1], found[n, 2] = x, y, z
            found_atom[n] = j
            n += 1
    return n


@kernel
def fill(n, i, element, plan, list):
    """Sort the n neighbours found of atom i by element into rows, and compute
    what depends on one neighbour.
    """
    part, next, n_element, rows = list.part, list.next, plan.z.shape[0], list.rows
    near2 = plan.reach[1] * plan.reach[1]
    for e in range(n_element):
        next[e, 0] = next[e, 1] = 0
    for k in range(n):
        x, y, z = list.found[k, 0], list.found[k, 1], list.found[k, 2]
        far = np.int64(not x * x + y * y + z * z < near2)
        next[element[list.found_atom[k]], far] += 1
    first = 0
    for e in range(n_element):
        part[e, 0], part[e, 1], part[e, 2] = first, first + next[e, 0], first + next[e, 0] + next[e, 1]
        next[e, 0], next[e, 1] = part[e, 0], part[e, 1]
        first = part[e, 2]
    part[n_element, 0], part[n_element, 1], part[n_element, 2] = 0, n, n
    for k in range(n):
        j = list.found_atom[k]
        x, y, z = list.found[k, 0], list.found[k, 1], list.found[k, 2]
        r2 = x * x + y * y + z * z
        far = np.int64(not r2 < near2)
        q = next[element[j], far]
        next[element[j], far] += 1
        list.atom[q] = j
        o = place(q, plan)
        rows[o + X], rows[o + Y], rows[o + Z], rows[o + R2] = x, y, z, r2
        rows[o + SELF] = 0.0 if j == i else 1.0
    for c in range(0, n, np.int64(WIDTH)):
        o, n_here = place(c, plan), np.uintp(min(n - c, np.int64(WIDTH)))
        distances(rows, o, n_here)
        for q in range(plan.cutoff.shape[0]):
            f = o + FC + np.uintp(2 * q) * STRIDE
            row_cutoff(
                rows,
                f,
                f + STRIDE,
                o + R,
                o + RI,
                n_here,
                plan.cutoff[q, 0],
                plan.cutoff_at[q, 0],
                plan.cutoff_at[q, 1],
            )
            if plan.cutoff[q, 1]:
                for k in range(n_here):
                    weight = plan.z[element[list.atom[c + np.int64(k)]]]
                    rows[f + k] *= weight
                    rows[f + STRIDE + k] *= weight


@kernel(fastmath=FASTMATH)
def distances(rows, o, n):
    for t in range(n):
        r = math.sqrt(rows[o + R2 + t])
        rows[o + R + t] = r
        rows[o + RI + t] = 1.0 / r
        rows[o + OWN + t] = 0.0
        rows[o + KX + t] = 0.0
        rows[o + KY + t] = 0.0
        rows[o + KZ + t] = 0.0


@kernel
def exchange(list, plan, members, s):
    """Swap the gradient rows OWN, KX, KY, KZ of a list with members[s] (4, ...) of n potentials, if there are
    several.
    """
    if members.shape[0] == 1:
        return
    L, last = list.rows, list.part[plan.z.shape[0], 2]
    for c in range(0, last, np.int64(WIDTH)):
        o, n = place(c, plan), np.uintp(min(last - c, np.int64(WIDTH)))
        for t in range(n):
            at = c + np.int64(t)
            L[o + OWN + t], members[s, 0, at] = members[s, 0, at], L[o + OWN + t]
            L[o + KX + t], members[s, 1, at] = members[s, 1, at], L[o + KX + t]
            L[o + KY + t], members[s, 2, at] = members[s, 2, at], L[o + KY + t]
            L[o + KZ + t], members[s, 3, at] = members[s, 3, at], L[o + KZ + t]


@kernel(makes_arrays=True)
def packed_atoms(structures, s):
    a, b = structures.start[s], structures.start[s + 1]
    atoms = np.empty(np.int64(N_ATOM_ROW) * ((b - a) // np.int64(WIDTH) + 1))
    pack_atoms(structures.positions[a:b], structures.inverse[s], structures.pbc[s], atoms)
    return atoms


@kernel(makes_arrays=True)
def neighbours_of(i, structures, s, atoms, element, plan, image, near):
    """The list of atom i of structure s: `near`, or a larger one if its neighbours do not fit."""
    cell, inverse, pbc = structures.cell[s], structures.inverse[s], structures.pbc[s]
    positions = structures.positions[structures.start[s] : structures.start[s + 1]]
    n = search(atoms, element.shape[0], i, cell, inverse, pbc, plan.reach[0], image, near)
    if n > near.atom.shape[0]:
        near = make_list(n + n // 4, plan)
        n = search(atoms, element.shape[0], i, cell, inverse, pbc, plan.reach[0], image, near)
    n = measure(
        i, 0, n, near.found_atom, near.found_image, positions, cell, plan.reach[0] * plan.reach[0], near
    )
    fill(n, i, element, plan, near)
    return near
