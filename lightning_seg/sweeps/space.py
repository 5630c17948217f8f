"""What a search chooses from, in the syntax of Hydra's sweeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


@dataclass(frozen=True)
class Condition:
    """Parameters that only some choices have.

    Attributes:
        key: the parameter or group that decides.
        values: those of its values that open the parameters.
        params: the parameters and what they may be.
    """

    key: str
    values: frozenset[str]
    params: Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Space:
    """All that a search may choose.

    Attributes:
        params: parameters that every trial has.
        conditions: parameters that depend on those, or on conditions before.
    """

    params: Mapping[str, BaseDistribution]
    conditions: Sequence[Condition]

    def suggest(self, trial: optuna.Trial, otherwise: Callable[[str], str]) -> dict[str, str]:
        """What the study proposes for a trial, as it is written on a command line.

        Args:
            trial: of the study; what it has already is kept.
            otherwise: the value of a key that is not searched.
        """
        chosen = {key: _suggest(trial, key, params) for key, params in self.params.items()}
        for condition in self.conditions:
            value = chosen.get(condition.key)
            if (otherwise(condition.key) if value is None else value) in condition.values:
                chosen |= {key: _suggest(trial, key, params) for key, params in condition.params.items()}
        return chosen

    def examples(self, otherwise: Callable[[str], str]) -> list[dict[str, str]]:
        """Trials in which each choice occurs and each condition holds, to try whether they can be composed.

        Args:
            otherwise: the value of a key that is not searched.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.enqueue_trial({})
        for key, params in self.params.items():
            for choice in params.choices if isinstance(params, CategoricalDistribution) else ():
                study.enqueue_trial({key: choice})
        return [self.suggest(study.ask(), otherwise) for _ in study.get_trials()]


def read_space(
    parser: OverridesParser,
    params: Mapping[str, str],
    params_when: Mapping[str, Mapping[str, str]],
    overrides: Sequence[Override],
) -> Space:
    """The space of a configuration and a command line, where the latter has the last word.

    Args:
        parser: Hydra's.
        params: a key, and `choice(…)`, `range(…)` or `interval(…)`, which may be `tag(log, interval(…))`.
        params_when: `key=value,…`, and what is searched then.
        overrides: of the command line; a single value takes its key out of the space.

    Raises:
        ValueError: one of them is a single value.
    """
    fixed = {override.get_key_element() for override in overrides if not override.is_sweep_override()}

    def read(some: Mapping[str, str]) -> dict[str, BaseDistribution]:
        parsed = parser.parse_overrides([f"{key}={values}" for key, values in some.items()])
        return {one.get_key_element(): _distribution(one) for one in parsed if one.get_key_element() not in fixed}

    given = {one.get_key_element(): _distribution(one) for one in overrides if one.is_sweep_override()}
    conditions = []
    for condition, some in params_when.items():
        key, _, values = condition.partition("=")
        conditions.append(Condition(key, frozenset(value.strip() for value in values.split(",")), read(some)))
    return Space({**read(params), **given}, conditions)


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        log = "log" in sweep.tags
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return IntDistribution(sweep.start, sweep.end, log=log)
        return FloatDistribution(sweep.start, sweep.end, log=log)
    if not override.is_sweep_override():
        raise ValueError(f"{override.input_line} is one value: a search needs choice(…), range(…) or interval(…).")
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if all(isinstance(value, int) for value in values):
            return IntDistribution(int(values[0]), int(values[-1]), step=int(sweep.step))
        return FloatDistribution(float(values[0]), float(values[-1]), step=float(sweep.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _suggest(trial: optuna.Trial, key: str, params: BaseDistribution) -> str:
    if isinstance(params, FloatDistribution):
        return repr(trial.suggest_float(key, params.low, params.high, step=params.step, log=params.log))
    if isinstance(params, IntDistribution):
        return str(trial.suggest_int(key, params.low, params.high, step=params.step, log=params.log))
    assert isinstance(params, CategoricalDistribution)
    choices: Sequence[CategoricalChoiceType] = params.choices
    return str(trial.suggest_categorical(key, choices))
