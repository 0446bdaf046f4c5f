"""Error bars of correlated series, and bands over several runs."""

import numpy as np

FEWEST = 8  # blocks that still give an error bar
ROUNDING = 1e-9  # relative; smaller fluctuations are none


def block_error(values):
    """(mean, standard error, converged) of a correlated series (n,), by blocking.

    Pairs of neighbours are averaged again and again: the naive error sigma_k / sqrt(n_k) of level k grows
    until blocks are independent. The first level is taken that no later one exceeds by more than its own
    uncertainty sigma_k / sqrt(2 (n_k - 1)). `converged` is False if that is the last level with FEWEST blocks
    (the series is too short), and the error is then too small. Flyvbjerg and Petersen,
    J. Chem. Phys. 91, 461 (1989).
    """
    x = np.asarray(values, float)
    mean, errors, spreads = float(x.mean()), [], []
    if len(x) >= FEWEST and np.ptp(x) <= ROUNDING * abs(mean):
        return mean, 0.0, True  # it does not fluctuate
    while len(x) >= FEWEST:
        errors.append(x.std(ddof=1) / np.sqrt(len(x)))
        spreads.append(errors[-1] / np.sqrt(2.0 * (len(x) - 1)))
        x = 0.5 * (x[0 : len(x) - 1 : 2] + x[1 : len(x) : 2])
    if not errors:
        return mean, float("nan"), False
    for k in range(len(errors)):
        if all(errors[j] - errors[k] <= spreads[j] for j in range(k + 1, len(errors))):
            return mean, float(errors[k]), k < len(errors) - 1
    raise AssertionError("the last level always qualifies")


def band(curves):
    """Mean and sample standard deviation (0 of a single one) of curves (n_run, n), NaN from where one of
    them has none: a mean over fewer runs would jump there.
    """
    curves = np.asarray(curves, float)
    return curves.mean(axis=0), curves.std(axis=0, ddof=1) if len(curves) > 1 else 0.0 * curves[0]


def with_error(value, error):
    """A number and its error bar, with as many digits as two of the error bar: "2.31 ± 0.12"."""
    if not np.isfinite(error) or error <= 0.0:
        return f"{value:.2g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def table_with_bands(table, runs, names):
    """`table` (name -> column) and, for each curve of the runs (name -> (n,)), mean and deviation,
    and if there are several runs each of them.
    """
    for key in runs[0]:
        curves = [run[key] for run in runs]
        mean, std = band(curves)
        if len(curves) > 1:
            table |= {f"{key}[{name}]": curve for name, curve in zip(names, curves)}
        table |= {f"{key}_mean": mean, f"{key}_std": std}
    return table
