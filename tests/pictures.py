"""Makes the pictures of the README.

    python -m tests.pictures                 # all of them; the first is of a training, minutes on a CPU
    python -m tests.pictures few_membrane    # one of them

Those of the study of few images are drawn from its scores, notebooks/few_labels.csv, which
`python -m tests.benchmarks.few_labels` measures.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks import few_labels

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def predictions(path: Path) -> None:
    """What README's first command leaves: the test images of the embedded data set as the trained network sees them."""
    with tempfile.TemporaryDirectory() as runs:
        code = "from lightning_seg.commands.train import main; main()"
        subprocess.run([sys.executable, "-c", code, "trainer=cpu", f"runs={runs}", "run=default"], check=True)
        shutil.copyfile(Path(runs) / "default" / "predictions.png", path)


def few_images(dataset: str, path: Path) -> None:
    """IoU against the number of training images, and what each technique adds."""
    scores = few_labels.read_scores(FOLDER / "few_labels.csv")
    few_labels.draw(path, dataset, [score for score in scores if score.dataset == dataset])


PICTURES: dict[str, Callable[[Path], None]] = {
    "predictions": predictions,
    **{f"few_{dataset}": partial(few_images, dataset) for dataset in few_labels.DATASETS},
}


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; all if none is given")
    names = parser.parse_args(arguments).names or list(PICTURES)
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        parser.error(f"no picture is named {', '.join(unknown)}: choose from {', '.join(PICTURES)}.")
    for name in names:
        PICTURES[name](folder / f"{name}.png")
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
