"""The console commands, one module each, and what they share.

.. include:: README.md
"""
