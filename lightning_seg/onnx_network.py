"""ONNX files of `lightning-seg-export` as modules: predicted by ONNX Runtime, without the network's library."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.checkpoint import checked_palette
from lightning_seg.hub import require
from lightning_seg.inference.tiling import is_tile
from lightning_seg.module import SegmentationModule
from lightning_seg.onnx_graph import has_control_flow, refers_elsewhere
from lightning_seg.reading import open_regular

_MOST_CLASSES = 4096
_LONGEST = 2**20  # characters of what a file says of itself
_KEYS = (
    *("task", "class_names", "palette", "ignore_index", "scale", "tile", "margin", "tile_stride", "threshold"),
    *("channels", "gives"),
)


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime runs, from images `(N, channels, H, W)` in [0, 1] to logits.

    Labels that a file gives in their place become logits of 1 and -1, from which no probabilities follow.

    Args:
        path: the file.
        device: where it runs.
        classes: channels of the logits.
        labels: whether the file gives labels.
        stride: of the tiles, in pixels of the image.
    """

    def __init__(self, path: Path, device: torch.device, classes: int, labels: bool, stride: int) -> None:
        super().__init__()
        self.path, self.session = path, onnx_session(path, device)
        self.classes, self.labels, self.stride = classes, labels, stride

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, classes, H, W)`."""
        try:
            found = self.session.run(None, {"image": image.float().cpu().numpy()})[0]
            result = torch.from_numpy(found).to(image.device)
        except Exception as error:  # of classes of its own
            raise ValueError(f"{self.path} cannot be run: {' '.join(str(error).split())[:300]}") from error
        if not self.labels or result.ndim == 4:
            return 2.0 * result - 1 if self.labels else result
        if self.classes == 1:
            return 2.0 * result[:, None] - 1
        return 2.0 * F.one_hot(result, self.classes).movedim(-1, 1) - 1


class NoLoss(nn.Module):
    """That of a file, which holds none: NaN."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """A scalar."""
        return logits.new_full((), math.nan)


class OnnxModule(SegmentationModule):
    """A `SegmentationModule` of an ONNX file, for prediction and evaluation, whose loss is NaN; it is not trained."""

    @property
    def tile_stride(self) -> int:
        """As the file says."""
        stride: int = self.backbone.stride  # type: ignore[assignment]
        return stride

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities, where the file gives logits.

        Raises:
            ValueError: it gives labels.
        """
        if self.backbone.labels:
            raise ValueError("the file gives labels (argmax=true), and no probabilities: export it with argmax=false.")
        return super().probabilities(logits)


def load_onnx(path: str | Path, map_location: str | torch.device = "cpu") -> OnnxModule:
    """The module of an ONNX file that `lightning-seg-export` wrote; nothing but ONNX Runtime reads it.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: `pip install "lightning-seg[export]"` is missing.
        ValueError: it is not such a file.
    """
    path, device = Path(path).expanduser(), torch.device(map_location)
    with open_regular(path):
        pass
    session = onnx_session(path, torch.device("cpu"))
    try:
        stored = session.get_modelmeta().custom_metadata_map
        found = {name: _value(stored[f"lightning_seg.{name}"]) for name in _KEYS}
        names, scale = found["class_names"], float(found["scale"])
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise ValueError("class_names is not a list of names")
        if len(names) > _MOST_CLASSES:
            raise ValueError(f"it has {len(names)} classes, expected {_MOST_CLASSES} at most")
        if found["gives"] not in ("logits", "labels"):
            raise ValueError(f"gives={found['gives']!r:.40} is neither logits nor labels")
        for name in ("tile", "margin", "tile_stride"):
            if found[name] is not None and not is_tile(found[name]):
                raise ValueError(f"{name}={found[name]!r:.40} is not a non-negative integer, or several")
        if not 1 / 64 <= scale <= 4:
            raise ValueError(f"scale={scale} is not from 1/64 to 4")
        tile, margin, stride = found["tile"], found["margin"], int(found["tile_stride"])
        if tile is not None:  # in pixels of the image as the network sees it
            tile, margin = (
                round(one / scale) if isinstance(one, int) else [round(side / scale) for side in one]
                for one in (tile, margin)
            )
            stride = max(1, round(stride / scale))
        module = OnnxModule(
            OnnxNetwork(path, device, len(names), found["gives"] == "labels", stride),
            NoLoss(),
            num_classes=len(names),
            task=found["task"],
            ignore_index=found["ignore_index"],
            class_names=names,
            tile=tile,
            margin=margin,
            tiling=_value(stored.get("lightning_seg.tiling", '"crop"')),  # which files had none of
            threshold=0.5 if found["gives"] == "labels" else found["threshold"],
        )
        module.palette = checked_palette(found["palette"], module, path)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"its metadata lack {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path} was not written by lightning-seg-export: {reason.rstrip('.'):.300}.") from error
    return module.to(device).eval()


def onnx_session(path: str | Path, device: torch.device) -> Any:
    """ONNX Runtime's session of a file.

    Raises:
        ImportError: ONNX Runtime is missing.
        ValueError: it cannot be read, or holds loops, branches or functions, which could take any time.
    """
    onnxruntime = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()  # the share of this process, where there are several
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ValueError("ONNX Runtime here has no CUDA: install onnxruntime-gpu, or use device=cpu.")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        content = Path(path).read_bytes()
        if has_control_flow(content):
            raise ValueError("it holds loops, branches or functions of its own, which exports of lightning_seg do not")
        if refers_elsewhere(content):
            raise ValueError("it keeps weights in another file, which exports of lightning_seg do not")
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # of classes of its own
        raise ValueError(f"{path} cannot be read as ONNX: {' '.join(str(error).split())[:300]}") from error


def _value(text: str) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(f"its metadata has {len(text)} characters")
    return json.loads(text)
