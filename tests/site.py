"""Builds a searchable site of the READMEs, the reference and the notebooks: `python -m tests.site FOLDER`."""

import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pdoc
from pdoc import docstrings, extract

import lightning_seg
from tests.readmes import ROOT

PACKAGE = "lightning_seg"
GUIDES = {
    "start": ("Start", ROOT / "README.md"),
    "configuration": ("Configuration", ROOT / "conf" / "README.md"),
    "contributing": ("Contributing", ROOT / ".github" / "CONTRIBUTING.md"),
    "security": ("Security", ROOT / ".github" / "SECURITY.md"),
    "changelog": ("Changelog", ROOT / "CHANGELOG.md"),
}
NOTEBOOKS = {f"notebooks.{path.stem}": path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PICTURE = re.compile(r"<img [^>]*data:image[^>]*>")
CONTENT = re.compile(r"(?<=data:image/png;base64,)[\w+/=]+")


def rooms() -> list[str]:
    """The parts of the package that have a README, in its order of the alphabet."""
    return sorted(f"{PACKAGE}.{path.parent.name}" for path in (ROOT / PACKAGE).glob("*/README.md"))


def documented() -> list[str]:
    """The package and its parts, but for its configuration and what the package's own page shows."""
    parts = {part.name for part in pkgutil.iter_modules(lightning_seg.__path__)} - {"checkpoint", "conf", "module"}
    return [PACKAGE, *(f"{PACKAGE}.{part}" for part in sorted(parts)), f"{PACKAGE}.losses.engine"]


def build(folder: Path, *, source: bool = True) -> None:
    """Writes the pages, with the source of what they describe or without, and the index that they are searched by."""
    for name in lightning_seg.__all__:  # imported when they are used, and pdoc looks for them before
        setattr(lightning_seg, name, getattr(lightning_seg, name))
    template = Path(__file__).parent / "site_template"
    pdoc.render.configure(docformat="google", math=True, show_source=source, template_directory=template)
    modules = {name: pdoc.doc.Module.from_name(name) for name in extract.walk_specs(documented())}
    for name in rooms():
        readme = ROOT / name.replace(".", "/") / "README.md"
        text = docstrings.convert(modules[name].docstring, "google", modules[name].source_file)
        modules[name].docstring = relinked(text, readme, name)
    for name, (_, path) in GUIDES.items():
        text = docstrings.embed_images(path.read_text(encoding="utf-8"), path)
        modules[name] = page(name, relinked(text, path, name))
    for name, path in NOTEBOOKS.items():
        modules[name] = page(name, relinked(notebook(path), path, name))
    pictures: dict[str, str] = {}
    for name in [*rooms(), *GUIDES, *NOTEBOOKS]:  # megabytes, through which Markdown would look for its characters
        modules[name].docstring = CONTENT.sub(partial(numbered, pictures), modules[name].docstring)
    pdoc.render.env.globals |= {"contents": contents(), "titles": titles()}
    for name, module in modules.items():
        html = CONTENT.sub(lambda number: pictures[number[0]], pdoc.render.html_module(module, modules))
        write(folder / f"{name.replace('.', '/')}.html", html)
    write(folder / "index.html", pdoc.render.html_index(modules))
    write(folder / "search.js", PICTURE.sub("", pdoc.render.search_index(modules)))


def numbered(pictures: dict[str, str], content: re.Match[str]) -> str:
    """The number of a picture among those that stand aside while pages are made."""
    number = str(len(pictures))
    pictures[number] = content[0]
    return number


def contents() -> dict[str, Sequence[str]]:
    """The pages that every page links to, under their headings."""
    return {"Guides": list(GUIDES), "Rooms": [PACKAGE, *rooms()], "Notebooks": list(NOTEBOOKS)}


def titles() -> dict[str, str]:
    """What these pages are called."""
    of_rooms = {name: name.removeprefix(f"{PACKAGE}.") for name in [PACKAGE, *rooms()]}
    of_notebooks = {name: path.stem.replace("_", " ") for name, path in NOTEBOOKS.items()}
    return {**{name: title for name, (title, _) in GUIDES.items()}, **of_rooms, **of_notebooks}


def page(name: str, markdown: str) -> pdoc.doc.Module:
    """A page that is not a module of Python."""
    module: Any = ModuleType(name, markdown)
    module.__docformat__, module.__all__, module.__page__ = "markdown", [], True
    return pdoc.doc.Module(module)


def notebook(path: Path) -> str:
    """The cells of a notebook and their outputs as Markdown."""

    def parts() -> Iterator[str]:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield escaped_formulas(cell.source)
                continue
            yield f"```python\n{cell.source}\n```"
            for output in cell.outputs:
                data = output.get("data", {"text/plain": output.get("text", "")})
                if "image/png" in data:
                    yield f"![output](data:image/png;base64,{''.join(data['image/png'].split())})"
                elif text := data.get("text/plain", "").rstrip():
                    yield f"```text\n{text}\n```"

    return "\n\n".join(parts())


def escaped_formulas(markdown: str) -> str:
    """Markdown whose formulas keep the characters that Markdown would take for its own."""

    def escaped(formula: re.Match[str]) -> str:
        return re.sub(r"([\\_*])", r"\\\1", formula[0])

    blocks = re.split(r"(^```.*?^```$|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    for index in range(0, len(blocks), 2):
        blocks[index] = re.sub(r"(?s:\$\$.+?\$\$)|\$[^$\n]+\$", escaped, blocks[index])
    return "".join(blocks)


def relinked(markdown: str, source: Path, name: str) -> str:
    """Markdown whose links to files of the repository lead to pages of the site.

    Raises:
        ValueError: a link leads to a file that the site does not show.
    """
    pages = {path: guide for guide, (_, path) in GUIDES.items()} | {path: name for name, path in NOTEBOOKS.items()}
    pages |= {ROOT / room.replace(".", "/") / "README.md": room for room in rooms()}

    def link(match: re.Match[str]) -> str:
        target, hash_sign, place = match[1].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = (source.parent / target).resolve()
        if path.name == "__init__.py":
            found = ".".join(path.parent.relative_to(ROOT).parts)
        elif path in pages:
            found = pages[path]
        else:
            raise ValueError(f"{source.relative_to(ROOT)} links to {target}, which has no page.")
        return f"]({'../' * name.count('.')}{found.replace('.', '/')}.html{hash_sign}{place})"

    blocks = re.split(r"(^```.*?^```$|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        block if index % 2 else re.sub(r"\]\(([^)\s]+)\)", link, block) for index, block in enumerate(blocks)
    )


def write(path: Path, text: str) -> None:
    """Writes a file of the site."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m tests.site FOLDER\n{__doc__}")
    build(Path(sys.argv[1]))
