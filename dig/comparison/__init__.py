"""Runs side by side: the same users, intervals, and whether a difference is more than chance (``dig.compare``)."""
