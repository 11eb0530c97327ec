"""Supervised learning on tables, as Dagster assets.

A team declares a prediction *problem* in one ``defs.yaml``.  Its dataset, split, candidates,
evaluation, challenger and production model become assets; *gates* stand between them as asset
checks; and the champion in production changes only when a challenger is fit and better.

The modules are the life of a problem, in order: ``dataset``, ``split``, ``candidate``,
``evaluation``, ``comparison``, ``gates``, ``promotion``.  They know pandas and scikit-learn and
nothing else.  ``round`` brings one asset after the other up to date, ``resources`` is where
things are kept, ``components`` shows it all to Dagster.
"""

__version__ = "0.1.0"
