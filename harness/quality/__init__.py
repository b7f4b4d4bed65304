"""Synthetic images to quality records."""
