"""Strength-controllable diffusion anomaly synthesis at cluster scale."""

__version__ = "0.1.0"
