"""Outputs of CP2K for tests: the parts of a single point that are read."""

ATOMS = """
   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 H     1      0.000000      0.000000      0.000000   1.0000   1.0079
      2    2 O     8      0.000000      0.100000     -0.740000   6.0000  15.9990
"""


def single_point(version, energy):
    """The output of a version up to the line of the energy, in whose words and unit `energy` is."""
    return f""" DBCSR| Multiplication driver                                                BLAS
 CP2K| version string:                                      CP2K version {version}
 CELL| Vector a [angstrom]:       5.000     0.000     0.000   |a| =     5.000000
 CELL| Vector b [angstrom]:       0.000     5.000     0.000   |b| =     5.000000
 CELL| Vector c [angstrom]:       0.500     0.000     6.000   |c| =     6.000000
 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM
{ATOMS}
 ENERGY| Total FORCE_EVAL ( QS ) energy {energy}
"""
