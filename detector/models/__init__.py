"""Detectors: one file each, an Options dataclass and a build function."""
