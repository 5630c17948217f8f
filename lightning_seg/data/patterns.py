"""Files found by patterns below a folder: `leftImg8bit/{split}/{city}/{id}_leftImg8bit.png`."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.pairs import contents, visible

DEEP = "**"  # any number of folders, none among them
_TOKEN = re.compile(r"\{([^{}]*)\}|\*")


class Found(NamedTuple):
    """A file, and what stands in it for each part of a pattern."""

    path: Path
    parts: dict[str, str]


class Pattern:
    """A path below a folder, some parts of which have names.

    `{name}` is any text within one folder's or file's name, as short as can be where several follow each other; a name
    that comes again is the same text. `*` is any text, `**` any folders, one within the other, and the suffix is that
    of the pattern in lower and upper case; `.*` is any suffix of `suffixes`. Names are compared in one form of Unicode;
    hidden files (`._1.png` among them) are passed over, and links are followed.

    Args:
        text: for example `images/{split}/{id}.jpg`.
        key: the option that holds it, for messages.
        suffixes: of the files that are meant, in lower case.
        also: further ones, which `.*` does not mean.

    Raises:
        ValueError: it names no part, is not below the folder, or has another suffix.
    """

    def __init__(self, text: str, key: str, suffixes: Sequence[str], also: Sequence[str] = ()) -> None:
        self.text = unicodedata.normalize("NFC", text)
        self.key = key
        self.suffixes = tuple(suffixes)
        self.components = [part for part in self.text.split("/") if part not in ("", ".")]
        if self.text.startswith(("/", "~")) or ".." in self.components or not self.components:
            raise ValueError(f"{key}={text} must be a path below data.root, without .. in it.")
        self._check_names()
        last = self.components[-1]
        suffix = ".nii.gz" if last.lower().endswith(".nii.gz") else os.path.splitext(last)[1].lower()
        if suffix not in (*self.suffixes, *also, ".*"):
            known = ", ".join(one[1:] for one in (*self.suffixes, *also))
            raise ValueError(f"{key}={text} must end with the suffix of a file ({known}), or with .* for any of them.")

    def _check_names(self) -> None:
        names = []
        for component in self.components:
            if component == DEEP:
                names.append(DEEP)
                continue
            rest = _TOKEN.sub("", component)
            found = [match[1] for match in _TOKEN.finditer(component) if match[1] is not None]
            if any(brace in rest for brace in "{}") or not all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in found):
                raise ValueError(f"{self.key}={self.text} must name its parts in braces, as {{id}}.")
            names += found
        if names.count(DEEP) > 1:
            raise ValueError(f"{self.key}={self.text} has {DEEP} more than once.")
        self.names = tuple(dict.fromkeys(names))

    def find(self, root: Path) -> list[Found]:
        """The files that fit, by path.

        Raises:
            OSError: a folder cannot be read.
        """
        return list(self._descend(root, self.components, {}, frozenset()))

    def match(self, path: str) -> dict[str, str] | None:
        """The parts of a path below the root, with `/`; None if it does not fit."""
        regex = ""
        names: list[str] = []
        for place, component in enumerate(self.components):
            last = place == len(self.components) - 1
            if component == DEEP:
                regex += "(?P<DEEP>(?:[^/]+/)*)"
            else:
                regex += self._regex(component, last, dict.fromkeys(names)) + ("" if last else "/")
                names += [match[1] for match in _TOKEN.finditer(component) if match[1]]
        found = re.fullmatch(regex, unicodedata.normalize("NFC", path))
        if found is None:
            return None
        parts = found.groupdict()
        if "DEEP" in parts:
            parts[DEEP] = parts.pop("DEEP").rstrip("/")
        return parts

    def nothing(self, root: Path) -> str:
        """Why no file fits: what lies where the pattern leads no further."""
        folder, component = self._farthest(root, self.components, {})
        place = "data.root" if folder == root else f"{folder.relative_to(root)}/"
        examples = [path.name + "/" * path.is_dir() for path in visible(folder)[:3]] if folder.is_dir() else []
        more = f" ({', '.join(examples)}{', …' if len(visible(folder)) > 3 else ''})" if examples else ""
        return (
            f"{self.key}={self.text} fits no file below {root}: nothing in {place} is called {component}; there "
            f"{'is' if not examples else 'are'} {contents(folder)}{more}."
        )

    def _descend(
        self, folder: Path, components: Sequence[str], parts: dict[str, str], above: frozenset[str]
    ) -> Iterator[Found]:
        first, *rest = components
        if first == DEEP:
            real = os.path.realpath(folder)
            if real in above:  # a link that leads back
                return
            yield from self._descend(folder, rest, {DEEP: "", **parts}, above)
            for path in visible(folder):
                if path.is_dir():
                    deeper = "/".join(filter(None, [parts.get(DEEP), unicodedata.normalize("NFC", path.name)]))
                    yield from self._descend(path, components, {**parts, DEEP: deeper}, above | {real})
            return
        for path, found in self._fitting(folder, first, parts, last=not rest):
            if rest:
                yield from self._descend(path, rest, {**parts, **found}, above)
            else:
                yield Found(path, {**parts, **found})

    def _fitting(
        self, folder: Path, component: str, parts: Mapping[str, str], *, last: bool
    ) -> Iterator[tuple[Path, dict[str, str]]]:
        """What fits one component of the pattern: folders, or, of the last one, files."""
        if not last and not _TOKEN.search(component) and (folder / component).is_dir():
            yield folder / component, {}
            return
        regex = re.compile(self._regex(component, last, parts))
        for path in visible(folder):
            found = regex.fullmatch(unicodedata.normalize("NFC", path.name))
            if found and path.is_dir() != last:
                yield path, {name: text for name, text in found.groupdict().items() if text is not None}

    def _regex(self, component: str, last: bool, parts: Mapping[str, str | None]) -> str:
        stem, suffix = os.path.splitext(component) if last else (component, "")
        regex, place, here = "", 0, set()
        for token in _TOKEN.finditer(stem):
            regex += re.escape(stem[place : token.start()])
            place, name = token.end(), token[1]
            if name is None:
                regex += "[^/]*"
            elif name in here or (name in parts and parts[name] is None):
                regex += f"(?P={name})"
            elif name in parts:
                regex += re.escape(str(parts[name]))
            else:
                regex += f"(?P<{name}>[^/]+?)"
                here.add(name)
        regex += re.escape(stem[place:])
        if suffix == ".*":
            return regex + f"(?i:{'|'.join(re.escape(one) for one in self.suffixes)})"
        return regex + f"(?i:{re.escape(suffix)})"

    def _farthest(self, folder: Path, components: Sequence[str], parts: dict[str, str]) -> tuple[Path, str]:
        """The deepest folder that the pattern leads to, and the component that nothing in it fits."""
        first, *rest = components
        if first == DEEP:
            return self._farthest(folder, rest, {**parts, DEEP: ""})
        deepest = folder, first
        if rest:
            for path, found in list(self._fitting(folder, first, parts, last=False))[:8]:
                reached = self._farthest(path, rest, {**parts, **found})
                if len(reached[0].parts) > len(deepest[0].parts):
                    deepest = reached
        return deepest
