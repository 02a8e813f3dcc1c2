"""What the neighbouring systems cost: ``python benchmarks/systems.py [PART …]`` runs those parts alone.

Each part is a file in ``benchmarks/system_parts``, whose first lines say what it measures, beside what, and how to try
it out on less.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from system_parts.eimf import eimf
from system_parts.intrr import intrr
from system_parts.relations import relations

Part = tuple[list[tuple[str, str, str]], dict[str, Any]]
"""Rows of the table (what was measured, the number with its unit, its limit), and figures of the last line."""

PARTS: dict[str, Callable[[], Part]] = {"relations": relations, "intrr": intrr, "eimf": eimf}
_NUMBERS = ("--items", "--users")


def main() -> None:
    """Measures the parts that were named, or all, and prints a table and, as the last line, JSON."""
    arguments = sys.argv[1:]
    for name in _NUMBERS:
        if name in arguments:
            place = arguments.index(name)
            del arguments[place : place + 2]
    unknown = [part for part in arguments if part not in PARTS]
    if unknown:
        sys.exit(f"{unknown[0]} is not a part; there are {', '.join(PARTS)}")
    table = Table(title="neighbouring systems")
    for heading, justify in (("part", "left"), ("what", "left"), ("found", "right"), ("limit", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    figures: dict[str, Any] = {}
    for number, part in enumerate(arguments or PARTS, 1):
        print(f"{part} ({number} of {len(arguments or PARTS)}), some minutes", file=sys.stderr, flush=True)
        rows, measured = PARTS[part]()
        for row in rows:
            table.add_row(part, *row)
        figures |= measured
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
