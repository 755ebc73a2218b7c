"""Pages of the documentation site that are made from the sources (a hook of mkdocs, see mkdocs.yml).

The start page is README.md; the reference of the command comes from its own parsers, that of the packages from the docstrings of
the names they export.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COPIED = {
    "index.md": "README.md",
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PACKAGES = ("images", "drr", "phantom", "tokens", "dataset", "synthesis", "model", "fit", "evaluate")
MODULES = {
    "training": {
        "training.anatomy": ("Structure", "vocabulary", "find", "resolve", "trainable"),
        "training.errors": (),
        "training.progress": (),
    },
    "napari_chexanatomy": {
        "napari_chexanatomy.welcome": ("WelcomeWidget",),
        "napari_chexanatomy.radiograph": ("RadiographWidget",),
        "napari_chexanatomy.predict": ("PredictWidget",),
        "napari_chexanatomy.review": ("ReviewWidget",),
        "napari_chexanatomy.fewshot": ("FewShotWidget",),
        "napari_chexanatomy.layers": (),
        "napari_chexanatomy.labelling": ("Project", "Item"),
        "napari_chexanatomy.readers": (),
        "napari_chexanatomy.writers": (),
        "napari_chexanatomy.samples": (),
    },
}
"""Modules without a list of exported names: what is shown of them; nothing named means everything public."""


def on_config(config: Any) -> Any:
    """Take angle brackets as they are: docstrings write <structure>.png and <loc0000>, and no page has HTML of its own."""
    from markdown import Extension, Markdown

    class NoHtml(Extension):
        def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's name
            md.preprocessors.deregister("html_block")
            md.inlinePatterns.deregister("html")

    config.markdown_extensions.append(NoHtml())
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made to those that are written. Called by mkdocs."""
    from mkdocs.structure.files import File

    pages = {page: (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](") for page, source in COPIED.items()}
    pages["commands.md"] = commands()
    pages |= {f"api/training.{name}.md": package_page(f"training.{name}") for name in PACKAGES}
    pages |= {f"api/{name}.md": module_page(name, modules) for name, modules in MODULES.items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def package_page(package: str) -> str:
    """A package with what its `__init__` exports, each from the module that defines it."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package)
        for name in node.names
    }
    exported = sorted(homes, key=str.casefold)
    about = ast.get_docstring(tree) or ""
    return "\n\n".join([f"# {package}", about, *(f"::: {homes[name]}" for name in exported)])


def module_page(title: str, modules: dict[str, tuple[str, ...]]) -> str:
    """Several modules on one page."""
    parts = [f"# {title}"]
    for module, names in modules.items():
        if names:
            parts += [f"::: {module}.{name}" for name in names]
        else:
            parts.append(f"::: {module}\n    options:\n      show_root_full_path: true")
    return "\n\n".join(parts)


def commands() -> str:
    """Every command with its options, as its parser has them."""
    from training.cli.entry import _COMMANDS, _SAMPLES

    parts = [
        "# The `chexanatomy` command",
        "Made from the command's own parsers; `chexanatomy COMMAND --help` says the same. Bad input is one line and exit "
        "status 2; an interrupted command ends with 130, a terminated one with 143, and what was finished stays.",
    ]
    every = {**{f"sample {name}": command for name, command in _SAMPLES.items()}, **_COMMANDS}
    for name, command in every.items():
        text, _, example = (command.__doc__ or "").partition("Example:")
        parts += [f"## {name}", *(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))]
        if example:
            parts.append(f"```\n{' '.join(example.split())}\n```")
        parts.append(_table(command))
    return "\n\n".join(parts)


def _table(command: Any) -> str:
    import tyro
    from tyro.extras import get_parser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the only way to ask tyro for a list of options
        parser = get_parser(command, config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone))
    rows = ["| option | takes | default | for |", "|---|---|---|---|"]
    for action in sorted(parser._actions, key=_place):
        if action.dest == "help":
            continue
        about, default = _help_of(action.help or "")
        name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.dest.upper()}`"
        takes = "" if action.nargs == 0 else f"`{action.metavar}`"
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (name, takes, default, about)) + " |")
    return "\n".join(rows)


def _place(action: Any) -> int:
    """What has no name first, then what is required; how progress is shown concerns every command and comes last."""
    return 3 if action.dest == "progress" else 0 if not action.option_strings else 2 - (action.help or "").endswith("(required)")


def _help_of(text: str) -> tuple[str, str]:
    """What an option is for, and its default as tyro appends it; none where nothing stands for it."""
    found = re.search(r"\s*\((required|optional|default: (.*))\)$", text, re.DOTALL)
    if found is None:
        return text, ""
    about, default = text[: found.start()], found.group(2)
    if default is None:
        return about, "required" if found.group(1) == "required" else ""
    return about, "" if default in ("None", "False") else f"`{default}`"
