"""Diffusion: schedule, networks, sampling and training of SDAS."""
