"""The nets on the symmetry functions of a structure: atomic energies and their gradient by the functions."""

from mpnnp.kernels.jit import kernel
from mpnnp.kernels.network import backward, forward, layer, make_workspace

STEP = 1e-6  # of the weights, times a deviation: differences are derivatives to as many digits


@kernel(makes_arrays=True)
def energies_and_gradient(element, G, model, w, energies, dE_dG):
    """Atomic energies N_e(g_i) (n_atom,) and dE/dG (n_atom, n_max), zero beyond an element's own."""
    work = make_workspace(model.topology, 1)
    for i in range(element.shape[0]):
        energies[i] = energy_and_gradient(element[i], G[i], model, w, work, dE_dG[i])


@kernel
def energy_and_gradient(e, G, model, w, work, dE_dG):
    """The energy N_e(g) of one atom of element e, and its gradient dE_dG (n_max,) by G (n_max,).

    Atom by atom, so that its digits do not depend on which atoms a call, or a rank, has.
    """
    t, first = model.topology, model.table.start[e]
    g = layer(work.Y, 1, t, e, 0)
    for m in range(g.shape[1]):
        g[0, m] = (G[m] - model.shift[first + m]) * model.factor[first + m]
    forward(e, 1, False, t, w, work)
    last = t.n_layer[e]
    layer(work.B, 1, t, e, last)[:] = 1.0
    backward(e, 1, False, t, w, work, True, False, work.B)
    dE_dg = layer(work.B, 1, t, e, 0)
    dE_dG[:] = 0.0
    for m in range(g.shape[1]):
        dE_dG[m] = dE_dg[0, m] * model.factor[first + m]
    return layer(work.Y, 1, t, e, last)[0, 0]


@kernel
def energies_and_gradients(e, G, model, w, work, energies, dE_dG):
    """Energy and gradient of one atom with the weights w[0], and how they change, per STEP, from there to
    the other rows of w.

    w (n, n_weight), energies (n,), dE_dG (n, n_max)
    """
    for s in range(w.shape[0]):
        energies[s] = energy_and_gradient(e, G, model, w[s], work, dE_dG[s])
    for s in range(1, w.shape[0]):
        energies[s] = (energies[s] - energies[0]) / STEP
        for m in range(G.shape[0]):
            dE_dG[s, m] = (dE_dG[s, m] - dE_dG[0, m]) / STEP
