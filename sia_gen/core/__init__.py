"""The shared words: images, datasets, masks, pairs, shards, seeds, provenance.

Numpy, scipy, Pillow, PyYAML and the standard library only, so that nothing here waits for torch.
"""
