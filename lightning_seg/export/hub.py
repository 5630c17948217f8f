"""Folders for the Hugging Face Hub: configuration, weights, and a model card written from the run."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

import lightning_seg
from lightning_seg.checkpoint import CONFIG_KEY, load_module, module_config, read_checkpoint
from lightning_seg.csv_files import read_csv
from lightning_seg.hub import CARD, CONFIG, WEIGHTS, is_repository, one_line, require
from lightning_seg.reading import read_json, read_yaml
from lightning_seg.runs.contents import CONFIG as CONFIG_FILE
from lightning_seg.runs.contents import DATA, INTERVALS, SCORES
from lightning_seg.runs.kept import LEFT_OUT, is_written
from lightning_seg.runs.scores import COUNTS, read_summary
from lightning_seg.text import number_of, printable

_MOST_ROWS = 2**16 + 1  # a class each, and the mean


def write_hub_folder(
    checkpoint: str | Path, output: str | Path, *, half: bool = False, trusted: tuple[str, ...] = (), name: str = ""
) -> Path:
    """Writes `config.json`, `model.safetensors` and `README.md`, the model card.

    `load_module(output)` loads the folder, under the rules of a checkpoint. Its configuration holds what builds the
    module, the palette and the scale; nothing of the machine or of where the data are.

    Args:
        checkpoint: of a training. Where its run's folder is around it, the card says the data and the test's scores.
        output: a new folder.
        half: weights in float16, half the size.
        trusted: packages of your own that the configuration builds from.
        name: `owner/name` on the Hub, for the card.

    Raises:
        FileExistsError: the folder exists.
        ImportError: `pip install "lightning-seg[export]"` is missing.
        ValueError: the checkpoint cannot be read, or its labels change in float16.
    """
    output = Path(output).expanduser()
    if output.exists():
        raise FileExistsError(f"output={output} exists: choose another name.")
    safetensors = require("safetensors.torch")
    stored = read_checkpoint(checkpoint)
    config, data = stored["config"], stored["config"].get("data") or {}
    kept = {
        "module": module_config(config),
        "palette": config.get("palette") or data.get("palette"),
        "scale": config.get("scale") or data.get("scale") or 1.0,
    }
    state = {key: value.contiguous().clone() for key, value in stored["state_dict"].items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    content = {
        "library_name": "lightning_seg",
        "model_type": "semantic-segmentation",
        "epoch": stored["epoch"],
        "threshold": stored["threshold"],
        CONFIG_KEY: {"config": kept, "version": stored["version"]},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(prefix=f".{output.name[:20]}-", dir=output.parent))
    try:
        (temporary / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        safetensors.save_file(state, temporary / WEIGHTS, metadata={"format": "pt"})
        _check_weights(load_module(temporary, trusted=trusted).state_dict(), stored["state_dict"], half)
        card = model_card(config, kept, _run_of(Path(checkpoint)), name or f"owner/{output.name}", trusted)
        (temporary / CARD).write_text(card, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return output


def push_to_hub(folder: str | Path, name: str, *, private: bool = True) -> str:
    """Uploads a folder as `owner/name` with `huggingface_hub`, by the account that is logged in there.

    Returns:
        Its address, `hf://owner/name`.

    Raises:
        ImportError: the extra `export` is missing.
        OSError: it cannot be uploaded.
        ValueError: the name is not one.
    """
    if not is_repository(name):
        raise ValueError(f"push={name} is not the name of a repository: write push=owner/name.")
    hub = require("huggingface_hub")
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), allow_patterns=[CONFIG, WEIGHTS, CARD])
    except Exception as error:  # of classes of its own, and those of several libraries of the network
        raise OSError(f"{folder} cannot be uploaded to {name}: {one_line(error)}") from error
    return f"hf://{name}"


def model_card(
    config: Mapping[str, Any], kept: Mapping[str, Any], run: Path | None, name: str, trusted: tuple[str, ...] = ()
) -> str:
    """The model card.

    Args:
        config: the checkpoint's.
        kept: what of it is written.
        run: the folder of the run, if it is known.
        name: `owner/name`.
        trusted: packages that loading needs.
    """
    module, data = kept["module"], config.get("data") or {}
    names = module.get("class_names") or [str(index) for index in range(module["num_classes"])]
    head = {
        "library_name": "lightning_seg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "lightning_seg"],
    }
    backbone, loss = module.get("backbone") or {}, module.get("loss") or {}
    network = ", ".join(str(backbone[key]) for key in ("architecture", "encoder_name") if key in backbone)
    folder = _folder_of(data, run)
    void = "none" if module.get("ignore_index") is None else module["ignore_index"]
    arguments = f", trusted={list(trusted)}" if trusted else ""
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {_plain(name.partition('/')[2] or name)}",
        f"Semantic segmentation ({module.get('task', 'multiclass')}) of {number_of(len(names), 'class')}, trained "
        f"with lightning_seg {lightning_seg.__version__}.",
        f"- **Network**: {_plain(network or _last(backbone))}",
        f"- **Loss**: {_plain(_last(loss))}",
        f"- **Data**: {_plain(_last(data)) if data else 'not known'}{folder}",
        f"- **Classes**: {', '.join(_plain(one) for one in names)}; void pixels: {void}",
        f"- **Scale** at which the network sees images: {kept['scale']}",
        "## Use",
        "```python\nfrom lightning_seg import load_module\n\n"
        f'labels = load_module("hf://{name}"{arguments}).predict("photo.jpg")\n```',
        "Loading runs no code from this repository: weights are read as data, and the configuration builds only "
        "networks and losses of a fixed list.",
        f"## Scores on the {_tested_on(data, run)}",
        _scores(run),
    ]
    text = "\n\n".join(lines)
    return text.replace("\n\n- **", "\n- **").replace("\n- **Network", "\n\n- **Network", 1) + "\n"


def _folder_of(data: Mapping[str, Any], run: Path | None) -> str:
    """The folder of the data by its name, which a checkpoint does not tell where it is one of the machine."""
    root = data.get("root")
    if root == LEFT_OUT:
        kept = read_yaml(run / CONFIG_FILE) if run is not None else None
        beside = kept.get("data") if isinstance(kept, dict) else None
        root = beside.get("root") if isinstance(beside, dict) else None
    return "" if root in (None, LEFT_OUT) or is_written(root) else f", the folder `{_plain(Path(str(root)).name)}`"


def _tested_on(data: Mapping[str, Any], run: Path | None) -> str:
    """What was tested on: of a folder without a test split, the images that the epoch was chosen by."""
    path = None if run is None else run / DATA
    if _last(data) == "FolderDataModule" and path is not None and path.is_file() and "test" not in read_json(path):
        return "validation images, by which the epoch was chosen; there was no test split"
    return "test split"


def _scores(run: Path | None) -> str:
    """The table of the test, in percent, with the intervals of the mean where the run has them."""
    if run is None or not (run / SCORES).is_file():
        return "Not known: the checkpoint lay outside of its run."
    columns, rows = read_csv(run / SCORES)
    if not columns or len(rows) > _MOST_ROWS:
        raise ValueError(f"{run / SCORES} is not the table of a test: remove it, or export from another folder.")
    counts = [rows[-1].get(name, "") for name in COUNTS] if rows else []
    columns = [column for column in columns if column not in COUNTS]
    table = [f"| {' | '.join(map(_plain, columns))} |", f"|{' --- |' * len(columns)}"]
    for row in rows:
        name, *scores = (row[column] for column in columns)
        table.append(f"| {' | '.join(map(_plain, [name, *map(_percent, scores)]))} |")
    if all(counts):
        table.append(f"\nOf {_plain(counts[0])} images and {_plain(counts[1])} pixels.")
    if (run / INTERVALS).is_file():
        found = read_summary(run / INTERVALS)
        parts = [
            f"{_plain(score)} {100 * one['low']:.2f} to {100 * one['high']:.2f}"
            for score, one in found["intervals"].items()
            if None not in (one.get("low"), one.get("high")) and "/" not in score
        ]
        table.append(f"\n95 % intervals by bootstrap over {found.get('images')} images, in %: {', '.join(parts)}.")
    return "\n".join(table)


def _percent(cell: str) -> str:
    try:
        return f"{100 * float(cell):.2f}"
    except ValueError:
        return cell


def _last(part: Mapping[str, Any]) -> str:
    return str(part.get("_target_", "")).rpartition(".")[2]


def _plain(text: object) -> str:
    """A name that is neither markup nor a new cell of a table."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in printable(text))


def _run_of(checkpoint: Path) -> Path | None:
    run = checkpoint.expanduser().parent.parent
    return run if checkpoint.parent.name == "checkpoints" and (run / "config.yaml").is_file() else None


def _check_weights(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], half: bool) -> None:
    for name, value in wanted.items():
        if not torch.isfinite(found[name]).all() and torch.isfinite(value).all():
            raise ValueError(f"{name} is too large for float16: leave half=true out.")
        if not half and not torch.equal(found[name].cpu(), value.cpu()):
            raise ValueError(f"{name} does not match what was written.")
