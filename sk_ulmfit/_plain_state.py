"""Pickles, copies and skops files of an estimator, without any type of torch, skorch or this package inside."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Self

from sk_ulmfit._estimator import Estimator
from sk_ulmfit.models.plain import from_plain, to_plain
from sk_ulmfit.models.schema import SchemaError
from sk_ulmfit.models.state import ModelState, describing

_FITTED = "_fitted"
# Parameters whose objects or folders may hold code: pickles have them, a file of skops has not.
_MAY_HOLD_CODE = ("memory", "callbacks", "teacher")
_PATH, _MODEL = "sk_ulmfit path", "sk_ulmfit model"  # keys of what stands for a Path or a ModelState


class PlainState(Estimator):
    """Base of the estimators that hold what they have learned in `_fitted`, and pickle it as plain python and arrays.

    ``copy.copy`` shares it. Pickle, ``copy.deepcopy``, joblib and skops go through ``__getstate__`` and
    ``__setstate__``. The latter checks all of it as `load` checks a file: a file of skops may come from a stranger.
    """

    _plain_name: str = "estimator"  # what messages call it

    def _fitted_to_plain(self, fitted: Any) -> dict[str, Any]:
        """Return what was learned as plain python, arrays and estimators."""
        raise NotImplementedError

    def _fitted_from_plain(self, value: Any) -> Any:
        """Return what was learned; raise ValueError unless `value` is whole. The parameters are set already."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        own = {name: vars(self)[name] for name in _parameters_with_code(type(self)) if name in vars(self)}
        return _new, (type(self), own), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        parameters, left_out = self._get_param_names(), _parameters_with_code(type(self))
        state = {
            name: _plain_parameter(value) if name in parameters else value
            for name, value in vars(self).items()
            if name not in left_out and name != _FITTED
        }
        if _FITTED in vars(self):
            state[_FITTED] = self._fitted_to_plain(vars(self)[_FITTED])
        return state

    def __setstate__(self, state: Any) -> None:
        with describing(f"The pickle or skops file of this {type(self).__name__}", self._plain_name):
            values = _check_attributes(type(self), state)
            fitted = values.pop(_FITTED, None)
            parameters = self._get_param_names()
            values |= {name: _parameter(values[name]) for name in parameters if name in values}
            self.__dict__.update(values)
            for name, default in _parameters_with_code(type(self)).items():
                self.__dict__.setdefault(name, default)
            if missing := [name for name in parameters if name not in vars(self)]:
                raise SchemaError(f"no parameter {missing[0]}")
            if fitted is not None:
                self._fitted = self._fitted_from_plain(fitted)


def _new(cls: type[PlainState], own: dict[str, Any]) -> PlainState:
    """Make an estimator that has no more than these attributes yet."""
    estimator = cls.__new__(cls)
    estimator.__dict__.update(own)
    return estimator


def _parameters_with_code(cls: type[PlainState]) -> dict[str, Any]:
    """Return the parameters of an estimator that may hold code, with their defaults."""
    parameters = inspect.signature(cls.__init__).parameters
    return {name: parameters[name].default for name in _MAY_HOLD_CODE if name in parameters}


def _check_attributes(cls: type[PlainState], state: Any) -> dict[str, Any]:
    """Return a copy of the state of an estimator; raise SchemaError for a name that would hide a method."""
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise SchemaError(f"it has a {type(state).__name__} in place of attributes by name")
    for name in state:
        of_class = inspect.getattr_static(cls, name, None)
        if isinstance(of_class, (property, classmethod, staticmethod)) or callable(of_class) or name.startswith("__"):
            raise SchemaError(f"it has an attribute {ascii(name)[:60]}, which would hide a method")
    if left_out := state.keys() & _parameters_with_code(cls).keys():
        raise SchemaError(f"it has the parameter {min(left_out)}, which no such file holds")
    if _FITTED in state and type(state[_FITTED]) is not dict:
        raise SchemaError(f"it has a {type(state[_FITTED]).__name__} in place of what was learned")
    return dict(state)


def _plain_parameter(value: Any) -> Any:
    """Return a parameter with a dict for each Path and each model in memory."""
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if isinstance(value, ModelState):
        return {_MODEL: to_plain(value)}
    if type(value) in (tuple, list) and any(isinstance(item, (Path, ModelState)) for item in value):
        return type(value)(map(_plain_parameter, value))
    return value


def _parameter(value: Any) -> Any:
    """Undo `_plain_parameter`."""
    if type(value) is dict and value.keys() == {_PATH}:
        if type(value[_PATH]) is not str:
            raise SchemaError("it has a path that is no text")
        return Path(value[_PATH])
    if type(value) is dict and value.keys() == {_MODEL}:
        return from_plain(value[_MODEL], "language_model")
    if type(value) in (tuple, list):
        return type(value)(map(_parameter, value))
    return value
