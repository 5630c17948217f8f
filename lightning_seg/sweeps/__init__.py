"""What `-m` does: every combination of choices, or a search for the best; and the table that ends either.

.. include:: README.md
"""
