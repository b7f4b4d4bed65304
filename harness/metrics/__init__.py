"""Metrics: one file each, numpy in, float out.

A metric is a module with `NEEDS` (the names of compute's arrays), `HIGHER_IS_BETTER`, `VERSION`
and `compute`. A change of definition raises VERSION, and values of two versions never share a
column. Where a value does not exist (one class only), `compute` raises UndefinedMetric: nothing
is called 0 that was not measured to be 0.
"""
