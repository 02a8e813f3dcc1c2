"""Faults as figures: ``make test-faults`` damages, fills, kills and refuses, and writes ``docs/reliability.md``.

Each part is a module with a function ``run(workshop)`` that returns a :class:`faults.verdicts.Figures`; ``python -m
faults --only PART --small`` (with ``tests`` on ``PYTHONPATH``) takes a quick look at one of them.
"""
