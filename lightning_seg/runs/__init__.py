"""The folder of a run: what it holds, what makes it the same run, and the table of its scores.

.. include:: README.md
"""
