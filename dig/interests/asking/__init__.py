"""Asking models about items: what is asked, what comes back, what it may cost, and where every answer is kept."""
