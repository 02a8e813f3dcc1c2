"""The parts of ``benchmarks/systems.py``."""
