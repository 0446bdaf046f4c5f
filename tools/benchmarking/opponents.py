"""The filters that mpnnp's is measured against: the same equations on a dense P,
with the best that BLAS offers.

    X = P H^T,    A = H X + I / eta,    w += X A^-1 xi,    P -= X A^-1 X^T,    P += q I

P (n, n) in Fortran order, changed in place; H (M, n) C-contiguous, so that H.T is in Fortran order; returns
the increment (n,).
"""

import numpy as np
from scipy.linalg.blas import dgemm, dgemv, dger, dsymm, dsymv, dsyr, dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf, dpotrs

FEW = 4  # rows up to which one dsymv for each is faster than a dsymm


def textbook_update(P, H, errors, eta, q):
    """K = X A^-1 and P -= K X^T with general matrix products: every element of P is read and written."""
    M = len(H)
    X = dgemv(1.0, P, H[0])[:, None] if M == 1 else dgemm(1.0, P, H.T)
    L, _ = dpotrf(H @ X + np.eye(M) / eta, lower=1)
    K = np.asfortranarray(dpotrs(L, X.T, lower=1)[0].T)
    if M == 1:
        dger(-1.0, K[:, 0], X[:, 0], a=P, overwrite_a=1)
    else:
        dgemm(-1.0, K, X, beta=1.0, c=P, trans_b=1, overwrite_c=1)
    P.reshape(-1, order="F")[:: len(P) + 1] += q
    return K @ errors


def symmetric_update(P, H, errors, eta, q):
    """The same on the lower triangle of P alone: U = X L^-T and P -= U U^T."""
    M = len(H)
    X = np.stack([dsymv(1.0, P, h, lower=1) for h in H]).T if M <= FEW else dsymm(1.0, P, H.T, lower=1)
    L, _ = dpotrf(H @ X + np.eye(M) / eta, lower=1)
    U = dtrsm(1.0, L, X, side=1, lower=1, trans_a=1)
    if M == 1:
        dsyr(-1.0, U[:, 0], lower=1, a=P, overwrite_a=1)
    else:
        dsyrk(-1.0, U, beta=1.0, c=P, lower=1, overwrite_c=1)
    P.reshape(-1, order="F")[:: len(P) + 1] += q
    return U @ dtrsm(1.0, L, errors[:, None], lower=1)[:, 0]
