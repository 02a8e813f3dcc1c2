"""What ``python -m dig.interests`` does, a file a command, printed for people."""

from __future__ import annotations

from dig.interest_commands.labelling import label
from dig.interest_commands.plan import plan
from dig.interest_commands.retry import retry
from dig.interest_commands.show import show
from dig.interest_commands.transfer import export, import_answers

__all__ = ["export", "import_answers", "label", "plan", "retry", "show"]
