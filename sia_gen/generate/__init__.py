"""Images of a diffusion model as shards."""
