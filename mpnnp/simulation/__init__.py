"""Potentials in motion: the calculator, molecular dynamics, and what trajectories say."""
