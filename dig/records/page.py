"""``docs/results.md``: templates that people write, with tables that nobody types."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError

from dig.config import UserError
from dig.records.benchmarks import BenchmarkStore
from dig.records.published import PublishedNumbers
from dig.records.store import RunStore
from dig.records.tables import RunTables

__all__ = ["check_page", "render_page"]

_FIRST = "<!-- written by `python -m dig.results build` from docs/results/; changes here are lost -->"


def render_page(folder: Path) -> str:
    """The page.

    Args:
        folder: ``*.md.j2`` in the order of their names, ``records/``, ``benchmarks/``, ``benchmarks.yaml`` and
            ``published.yaml``.

    Raises:
        UserError: a template asks for what is not there.
    """
    templates = sorted(folder.glob("*.md.j2"))
    if not templates:
        raise UserError(f"{folder}: no templates (*.md.j2); the command runs in the project's folder", exit_code=2)
    runs = RunTables(RunStore(folder / "records"))
    benchmarks = BenchmarkStore(folder / "benchmarks", folder / "benchmarks.yaml")
    published = PublishedNumbers(folder / "published.yaml")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown, of our own files
    for function in (
        runs.table,
        runs.systems,
        runs.value,
        runs.users,
        runs.gains,
        runs.effort,
        runs.curve,
        runs.runs,
        benchmarks.benchmark,
        published.published,
    ):
        environment.globals[function.__name__] = function
    parts = [_rendered(environment, template) for template in templates]
    return "\n\n".join([_FIRST, *parts]) + "\n"


def check_page(page: Path, rendered: str) -> None:
    """Whether the file says what its records say.

    Raises:
        UserError: with the first line that differs.
    """
    if not page.is_file():
        raise UserError(f"{page}: is not there; python -m dig.results build writes it")
    found, wanted = page.read_text(encoding="utf-8"), rendered
    if found == wanted:
        return
    lines, others = found.split("\n"), wanted.split("\n")
    at = next(
        (at for at, (line, other) in enumerate(zip(lines, others, strict=False)) if line != other),
        min(len(lines), len(others)),
    )
    has = repr(lines[at]) if at < len(lines) else "nothing more"
    wants = repr(others[at]) if at < len(others) else "nothing more"
    raise UserError(f"{page}:{at + 1}: has {has}, the records give {wants}; python -m dig.results build writes it anew")


def _rendered(environment: Environment, template: Path) -> str:
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render().strip()
    except UserError as error:
        raise UserError(f"{template}: {error}", error.exit_code) from None
    except TemplateSyntaxError as error:
        raise UserError(f"{template}:{error.lineno}: {error.message}") from None
    except (TemplateError, TypeError) as error:
        raise UserError(f"{template}: {error}") from None
