"""Servers that others wrote, started here with a small language model, and mined with; ``make test-endpoints``."""
