"""Parameters of the estimators, and options of the commands, in the same groups and the same order everywhere."""

import argparse
import importlib.util
import inspect
from pathlib import Path

import pytest

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.cli import finetune, train

ESTIMATORS = [ULMFiTMultiLabelClassifier, ULMFiTRegressor, ULMFiTLanguageModel]
spec = importlib.util.spec_from_file_location(
    "parameter_groups", Path(__file__).parents[1] / "docs" / "_ext" / "parameter_groups.py"
)
parameter_groups = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parameter_groups)


def described(estimator):
    """Return the parameters that the docstring describes, in its order."""
    lines = inspect.cleandoc(estimator.__doc__).split("\nParameters\n")[1].split("\nAttributes\n")[0].splitlines()
    names = [line.split(" : ")[0] for line in lines if " : " in line and not line.startswith(" ")]
    return [name for several in names for name in several.split(", ")]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_groups_docstring_and_signature_have_one_order(estimator):
    groups = parameter_groups.groups_of(estimator.__doc__)
    in_groups = [name for names in groups.values() for name in names]
    assert in_groups == described(estimator) == list(inspect.signature(estimator).parameters)
    assert next(iter(groups)) == "Everyday"
    assert len(groups["Everyday"]) == 10


@pytest.mark.parametrize(
    ("module", "estimator"),
    [(train, ULMFiTMultiLabelClassifier), (train, ULMFiTRegressor), (finetune, ULMFiTLanguageModel)],
)
def test_an_option_is_in_the_group_of_its_parameter(module, estimator):
    command = argparse.ArgumentParser()
    module.add_options(command)
    titles = {action.dest: group.title for group in command._action_groups for action in group._group_actions}
    groups = parameter_groups.groups_of(estimator.__doc__)
    expected = {name: title for title, names in groups.items() for name in names if name in titles}
    assert len(expected) >= 8
    assert {name: titles[name] for name in expected} == expected


def test_headings_stand_before_the_first_parameter_of_each_group():
    lines = [":Parameters:", "", "    **a** : int", "        First.", "    **b, c** : int", "        Others."]
    shown = parameter_groups.with_headings(lines, {"Everyday": ["a"], "Training": ["b", "c"]})
    assert shown == [
        *[":Parameters:", "", "    .. rubric:: Everyday", "", "    **a** : int", "        First."],
        *["    .. rubric:: Training", "", "    **b, c** : int", "        Others."],
    ]
