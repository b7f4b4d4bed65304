"""Ways to synthesise anomalies: one file each, found by its name.

A module has a `VERSION`, raised when the same options and generator would give other pairs; frozen
`Options`, each with a default (sia_gen.core.options.Checked); and `build(options, context)`, which
returns a method with a `name` and `pair(normal, region, rng)` (sia_gen.core.context). `SHARDS` set
to True says that it takes images from shards. A module whose name starts with an underscore is
shared by several and no method.
"""
