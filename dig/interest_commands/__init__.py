"""What ``python -m dig.interests`` does, a file a command, printed for people."""

from __future__ import annotations

from dig.interest_commands.asking import export, import_answers, plan, retry
from dig.interest_commands.looking import label, show

__all__ = ["export", "import_answers", "label", "plan", "retry", "show"]
