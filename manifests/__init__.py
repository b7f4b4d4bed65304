"""Data only: datasets, recipes and published numbers."""
