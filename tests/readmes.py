"""The README of the repository and those of its rooms."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
READMES = [ROOT / "README.md", *sorted((ROOT / "lightning_seg").rglob("README.md"))]


def blocks(readme: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    """A README without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


# Each line of commands once, those of README.md first.
LINES = list(
    dict.fromkeys(
        line.split("&& ")[-1]
        for readme in READMES
        for block in blocks(readme, "bash")
        for line in block.splitlines()
        if "lightning-seg-" in line or "sbatch" in line
    )
)
