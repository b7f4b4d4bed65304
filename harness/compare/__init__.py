"""Two results compared over the same images."""
