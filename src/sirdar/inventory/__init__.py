# SPDX-License-Identifier: Apache-2.0
"""From forecast to order: problems, policies, a simulator, and the exact optimum to judge them by.

Importing this package loads numpy only; torch, numba and scipy are loaded by what needs them, when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sirdar.inventory.ledger import Ledger as Ledger
from sirdar.inventory.ledger import Trajectory as Trajectory
from sirdar.inventory.plan import OrderPlan as OrderPlan
from sirdar.inventory.policies.base_stock import BaseStock as BaseStock
from sirdar.inventory.policies.capped_base_stock import CappedBaseStock as CappedBaseStock
from sirdar.inventory.policies.constant_order import ConstantOrder as ConstantOrder
from sirdar.inventory.policies.critical_fractile import CriticalFractile as CriticalFractile
from sirdar.inventory.policies.demand_context import demand_context as demand_context
from sirdar.inventory.policies.fixed_lot import FixedLot as FixedLot
from sirdar.inventory.policies.min_max import MinMax as MinMax
from sirdar.inventory.policies.myopic import Myopic as Myopic
from sirdar.inventory.policies.never_order import NeverOrder as NeverOrder
from sirdar.inventory.policies.perfect_foresight import PerfectForesight as PerfectForesight
from sirdar.inventory.policies.projected_inventory import ProjectedInventory as ProjectedInventory
from sirdar.inventory.policies.rolling import Rolling as Rolling
from sirdar.inventory.policy import OrdersUpTo as OrdersUpTo
from sirdar.inventory.policy import Outstanding as Outstanding
from sirdar.inventory.policy import Policy as Policy
from sirdar.inventory.policy import State as State
from sirdar.inventory.policy import UpTo as UpTo
from sirdar.inventory.problem import InventoryProblem as InventoryProblem
from sirdar.inventory.problem import Stock as Stock
from sirdar.inventory.reference import simulate_slowly as simulate_slowly
from sirdar.inventory.terms import OrderRules as OrderRules
from sirdar.inventory.terms import RandomLeadTime as RandomLeadTime
from sirdar.inventory.terms import Trade as Trade

if TYPE_CHECKING:
    from sirdar.inventory.learning import Episode as Episode
    from sirdar.inventory.learning import Training as Training
    from sirdar.inventory.learning import direct_backprop as direct_backprop
    from sirdar.inventory.policies.learned import LearnedPolicy as LearnedPolicy
    from sirdar.inventory.simulator import simulate as simulate
    from sirdar.inventory.uncensoring import uncensor as uncensor

_LATE = {
    "Episode": "sirdar.inventory.learning",
    "LearnedPolicy": "sirdar.inventory.policies.learned",
    "Training": "sirdar.inventory.learning",
    "direct_backprop": "sirdar.inventory.learning",
    "simulate": "sirdar.inventory.simulator",
    "uncensor": "sirdar.inventory.uncensoring",
}

__all__ = [
    "BaseStock",
    "CappedBaseStock",
    "ConstantOrder",
    "CriticalFractile",
    "Episode",
    "FixedLot",
    "InventoryProblem",
    "LearnedPolicy",
    "Ledger",
    "MinMax",
    "Myopic",
    "NeverOrder",
    "OrderPlan",
    "OrderRules",
    "OrdersUpTo",
    "Outstanding",
    "PerfectForesight",
    "Policy",
    "ProjectedInventory",
    "RandomLeadTime",
    "Rolling",
    "State",
    "Stock",
    "Trade",
    "Training",
    "Trajectory",
    "UpTo",
    "demand_context",
    "direct_backprop",
    "simulate",
    "simulate_slowly",
    "uncensor",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
