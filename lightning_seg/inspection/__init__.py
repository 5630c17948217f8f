"""A look at a data set before training: what it holds, what is wrong with it, and a plan of the training.

.. include:: README.md
"""
