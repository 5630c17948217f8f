"""The configuration of a run, as Hydra groups; importable as `pkg://lightning_seg.conf`.

.. include:: README.md
"""
