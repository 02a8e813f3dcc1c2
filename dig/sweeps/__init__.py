"""Sweeps: a file in W&B's format, run without an account, by as many workers as share a folder."""
