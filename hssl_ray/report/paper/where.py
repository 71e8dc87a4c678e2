"""`--where FIELD=VALUE`: which of several candidates a table is made of, under the rules of a study's `base`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hssl_ray.report.paper.readings import GRIDS, concerns, names_of
from hssl_ray.study.file.layers import read_override
from hssl_ray.study.file.messages import as_problem, faults
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.file.sections import FIELDS, Settings

_SETTINGS: TypeAdapter[dict[str, Any]] = TypeAdapter(Settings)


def read_where(texts: Sequence[str]) -> dict[str, Any]:
    """The wanted value of every field named; `image_size` may also be a policy of `readings.GRIDS`.

    Raises:
        StudyError: an unknown field, a value of the wrong type or outside its bounds, a field given twice.
    """
    wanted: dict[str, Any] = {}
    problems = []
    for text in texts:
        tree, wrong = read_override(text, "--where", "width=0.25")
        problems += wrong
        if tree is None or wrong:
            continue
        given = tree.plain
        problems += [at.problem(name, "given twice") for name, at in tree.keys.items() if name in wanted]
        if given.get("image_size") not in GRIDS:
            try:
                given = _SETTINGS.validate_python(given)
            except ValidationError as error:
                problems += [as_problem(fault, tree, {(): FIELDS}) for fault in faults(error)]
        wanted |= given
    if problems:
        raise StudyError(problems)
    return wanted


def matches(trial: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a trial has the wanted values, as far as they can change its method's result."""
    return all(
        value in (trial[field], *names_of(field, trial))
        for field, value in wanted.items()
        if concerns(field, trial) and field in trial
    )
