"""Benchmarks: what the engine costs, each figure beside a hand-written floor of the same graph.

`python -m benchmarks` measures, `python -m benchmarks profile` shows where the time goes.
"""
