# SPDX-License-Identifier: Apache-2.0
"""Strategies that look for the network that fits a chip; they see tasks and chips only through protocols.

The package can be called: ``sirdar.search(space, task, ...)`` is `sirdar.search.study.search`. Public names are loaded
when first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sirdar.search.compress import clustering as clustering
    from sirdar.search.compress import compressed as compressed
    from sirdar.search.compress import with_compression as with_compression
    from sirdar.search.curate import Curation as Curation
    from sirdar.search.curate import Granule as Granule
    from sirdar.search.curate import Landscape as Landscape
    from sirdar.search.curate import curate_priced as curate_priced
    from sirdar.search.curate import granules as granules
    from sirdar.search.curate import landscape as landscape
    from sirdar.search.expert import Rule as Rule
    from sirdar.search.expert import apply_rules as apply_rules
    from sirdar.search.expert import find_rules as find_rules
    from sirdar.search.expert import read_rules as read_rules
    from sirdar.search.expert import write_rules as write_rules
    from sirdar.search.hybrid import Hybrid as Hybrid
    from sirdar.search.hybrid import ZeroShot as ZeroShot
    from sirdar.search.multishot import RandomSearch as RandomSearch
    from sirdar.search.multishot import RegularisedEvolution as RegularisedEvolution
    from sirdar.search.multishot import Reinforce as Reinforce
    from sirdar.search.multishot import Strategy as Strategy
    from sirdar.search.multishot import View as View
    from sirdar.search.objectives import Objective as Objective
    from sirdar.search.objectives import Objectives as Objectives
    from sirdar.search.pricing import Priced as Priced
    from sirdar.search.pricing import estimated as estimated
    from sirdar.search.samplers import OptunaSampler as OptunaSampler
    from sirdar.search.singleshot import SingleShot as SingleShot
    from sirdar.search.singleshot import Supernet as Supernet
    from sirdar.search.space import Candidate as Candidate
    from sirdar.search.space import Choice as Choice
    from sirdar.search.space import SearchSpace as SearchSpace
    from sirdar.search.stopping import CurveStopping as CurveStopping
    from sirdar.search.stopping import MedianStopping as MedianStopping
    from sirdar.search.study import Options as Options
    from sirdar.search.study import Study as Study
    from sirdar.search.study import search as search
    from sirdar.search.task import Report as Report
    from sirdar.search.task import Stopped as Stopped
    from sirdar.search.task import Task as Task
    from sirdar.search.task import Trial as Trial
    from sirdar.search.zeroshot import combined as combined
    from sirdar.search.zeroshot import scored as scored

_HOME = {
    "Candidate": "space",
    "Choice": "space",
    "Curation": "curate",
    "CurveStopping": "stopping",
    "Granule": "curate",
    "Hybrid": "hybrid",
    "Landscape": "curate",
    "MedianStopping": "stopping",
    "Objective": "objectives",
    "Objectives": "objectives",
    "Options": "study",
    "OptunaSampler": "samplers",
    "Priced": "pricing",
    "RandomSearch": "multishot",
    "RegularisedEvolution": "multishot",
    "Reinforce": "multishot",
    "Report": "task",
    "Rule": "expert",
    "SearchSpace": "space",
    "SingleShot": "singleshot",
    "Stopped": "task",
    "Strategy": "multishot",
    "Study": "study",
    "Supernet": "singleshot",
    "Task": "task",
    "Trial": "task",
    "View": "multishot",
    "ZeroShot": "hybrid",
    "apply_rules": "expert",
    "clustering": "compress",
    "combined": "zeroshot",
    "compressed": "compress",
    "curate_priced": "curate",
    "estimated": "pricing",
    "find_rules": "expert",
    "granules": "curate",
    "landscape": "curate",
    "read_rules": "expert",
    "scored": "zeroshot",
    "search": "study",
    "with_compression": "compress",
    "write_rules": "expert",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name in _HOME:
        return getattr(import_module(f"sirdar.search.{_HOME[name]}"), name)
    msg = f"module 'sirdar.search' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__]


class _CallableModule(ModuleType):
    """Importing any part of this package sets ``sirdar.search`` to the package, which therefore can be called."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - those of `search`
        return import_module("sirdar.search.study").search(*arguments, **keywords)


sys.modules[__name__].__class__ = _CallableModule
