"""Projectors side by side: the same volumes and poses for every engine, each in a process of its own, taken in turns.

`python -m benchmarks.drr` is the short comparison, `python -m benchmarks.drr --all` the whole one; `--help` says the rest.
"""
