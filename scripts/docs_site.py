"""Hooks of mkdocs: pages that lie beside docs/ join the site, and every package gets a page of the API reference.

Markdown is written for the repository, where `docs/` is a folder and README.md lies above it; here links are turned so
that they lead to the same things in the site. What they lead to outside of it (a script, a notebook) comes along.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_PROJECT = Path(__file__).resolve().parents[1]
_BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md", "findings/README.md")
_PACKAGES = ("dig", "datamodules", "callbacks")
_LINK = re.compile(r"(\]\(\s*)(?![a-z]+:|#)([^)\s#]+)")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_ROLE = re.compile(r":(?:class|meth|func|mod|attr|data|exc):<code>~?([^<]+)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The reference joins the navigation."""
    pages = [{package: _page_of(package)} for package in _packages()]
    config.nav = [*(config.nav or []), {"Reference": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what does not lie in docs/, and the pages of the reference."""
    for name in _BESIDE:
        text = (_PROJECT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, _in_site(name), content=text))
        for target in _targets(text, posixpath.dirname(name)):
            _add_file(files, config, target)
    for path in sorted((_PROJECT / "docs").rglob("*.md")):
        folder = path.parent.relative_to(_PROJECT).as_posix()
        for target in _targets(path.read_text(encoding="utf-8"), folder):
            _add_file(files, config, target)
    for package, modules in _packages().items():
        parts = [f"# {package}", *(f"::: {module}" for module in modules)]
        files.append(File.generated(config, _page_of(package), content="\n\n".join(parts) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to where things are in the site, and lists begin after an empty line, as this Markdown wants it."""
    name = _in_repository(page.file.src_uri)
    parts = _CODE.split(markdown)
    turned = [
        part if place % 2 else _LINK.sub(lambda link: _turned(link, name), part) for place, part in enumerate(parts)
    ]
    return re.sub(r"(?m)^(?![-*+] |\d+\. |\s|\||#|$)(.+)\n(?=[-*] |1\. )", r"\1\n\n", "".join(turned))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Roles in docstrings (``:class:`~a.b.C```) are shown as the name that they hold."""
    return _ROLE.sub(lambda role: f"<code>{role[1].rsplit('.', 1)[-1]}</code>", html)


def _packages() -> dict[str, list[str]]:
    """The modules with docstrings, by the package that they lie in."""
    packages: dict[str, list[str]] = {}
    for root in _PACKAGES:
        for path in sorted((_PROJECT / root).rglob("*.py")):
            module = path.relative_to(_PROJECT).with_suffix("")
            package = ".".join(module.parent.parts)
            name = package if module.name == "__init__" else f"{package}.{module.name}"
            if not module.name.startswith("_") or module.name == "__init__":
                packages.setdefault(package, []).append(name)
    for package, modules in packages.items():
        if len(modules) > 1 and package in modules:
            modules.remove(package)  # it hands on what its files hold
    return dict(sorted(packages.items()))


def _page_of(package: str) -> str:
    return f"reference/{package}.md"


def _in_site(name: str) -> str:
    """Where a file of the project is in the site."""
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def _in_repository(uri: str) -> str:
    if uri == "index.md":
        return "README.md"
    return uri if uri in _BESIDE or uri.startswith("reference/") else f"docs/{uri}"


def _targets(text: str, folder: str) -> set[str]:
    prose = "".join(_CODE.split(text)[::2])
    return {posixpath.normpath(posixpath.join(folder, link[2])) for link in _LINK.finditer(prose)}


def _add_file(files: Files, config: MkDocsConfig, name: str) -> None:
    path = _PROJECT / name
    if path.is_file() and name not in _BESIDE and not name.startswith("docs/") and not files.get_file_from_path(name):
        files.append(File.generated(config, name, abs_src_path=str(path)))


def _turned(link: re.Match[str], name: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
    here = posixpath.dirname(_in_site(name))
    return f"{link[1]}{posixpath.relpath(_in_site(target), here or '.')}"
