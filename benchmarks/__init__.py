"""Benchmarks of pdmlab itself, on host time: `make bench`, or `python -m benchmarks storage` for one of them.

Each module measures one topic and prints one table or two. Where there is something to compare with, a ratio says
how we do against it; figures without one are for comparison with those of another commit on the same computer.
"""
