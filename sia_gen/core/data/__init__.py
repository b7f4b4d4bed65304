"""Datasets: layouts, lists, manifests, categories, inspection."""
