"""Ways to synthesise anomalies: one file each, found by its name.

A module has a frozen `Options` and `build(options, context)`, which returns a method with a `name`
and `pair(normal, region, rng)` (sia_gen.core.context). What a module starts with an underscore
is shared by several and no method.
"""
