"""Metrics: one file each, numpy in, float out."""
