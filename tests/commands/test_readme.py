import re
import shlex
from pathlib import Path

import pytest

from tests.console import SHORT, SMALL, Run

README = (Path(__file__).parents[2] / "README.md").read_text()
LINES = [
    line.split("&& ")[-1]
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "lightning-seg-" in line or "sbatch" in line
]
# Those that start processes in other ways are run in tests/cluster.
COMMANDS = [line for line in LINES if line.startswith("lightning-seg-") and "launcher=slurm" not in line]


@pytest.mark.slow
def test_every_command_and_the_python_of_the_readme_run(run: Run, folder: Path) -> None:
    assert len(COMMANDS) >= 10
    for line in COMMANDS:
        command, *arguments = shlex.split(line)
        if command == "lightning-seg-train":
            arguments += SHORT + ([] if "data=folder" in arguments else SMALL)
        run(command, *arguments)
    assert {path.name for path in (folder / "masks").glob("*.png")} >= {"0.png", "1.png", "2.png", "0_overlay.png"}

    (python,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(python, namespace)
    assert namespace["labels"].shape == (1, 120, 160)  # type: ignore[attr-defined]
