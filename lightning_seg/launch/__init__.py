"""Processes that train together: those that a command starts, and those of torchrun and SLURM.

.. include:: README.md
"""
