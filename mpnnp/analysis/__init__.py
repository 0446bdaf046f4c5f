"""What simulations and data sets say: densities, radial distributions, diffusion."""
