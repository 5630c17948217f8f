"""Trained modules as files that others can use.

.. include:: README.md
"""

from lightning_seg.export.agreement import Agreement, check_agreement
from lightning_seg.export.hub import push_to_hub, write_hub_folder
from lightning_seg.export.network import ExportedNetwork
from lightning_seg.export.onnx_file import write_onnx
from lightning_seg.export.program import write_program

__all__ = [
    "Agreement",
    "ExportedNetwork",
    "check_agreement",
    "push_to_hub",
    "write_hub_folder",
    "write_onnx",
    "write_program",
]
