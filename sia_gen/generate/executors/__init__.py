"""Executors: who runs the shards. One contract, two implementations: in-process and Ray.

An executor maps specs to workers and knows no diffusion; a job maps a spec to files and knows no
executor. What is done is told by the files alone, so an executor keeps no state of its own.
"""
