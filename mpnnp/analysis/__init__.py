"""What potentials, runs and data say."""
