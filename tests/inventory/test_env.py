# SPDX-License-Identifier: Apache-2.0
"""The environments against gymnasium's own checker and against the simulator."""

import warnings
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from sirdar.errors import ArgumentError, UnsupportedError  # noqa: E402
from sirdar.inventory import (  # noqa: E402
    BaseStock,
    InventoryProblem,
    OrderRules,
    RandomLeadTime,
    State,
    Trade,
    simulate,
)
from sirdar.inventory.env import InventoryEnv, InventoryVectorEnv  # noqa: E402

DEMAND = np.random.default_rng(0).poisson(5.0, (4, 12)).astype(np.float64)
TRADE = Trade(price=np.array([8.0, 9.0, 10.0, 11.0]), unit_cost=2.0, order_cost=1.0)
SPLIT = ("holding", "lost_sales", "purchase", "ordering", "income")
PROBLEM = InventoryProblem(1.0, np.array([4.0, 9.0, 4.0, 9.0]), np.array([0, 1, 2, 3]), trade=TRADE)


@pytest.mark.parametrize("problem", [PROBLEM, InventoryProblem(1.0, 9.0, 2, backlog=True)])
def test_gymnasium_checks_the_environment(problem: InventoryProblem) -> None:
    with np.errstate(all="raise"):
        check_env(InventoryEnv(problem, DEMAND, length=5), skip_render_check=True)


def test_without_a_lead_time_no_observation_has_a_bound_for_both_ends() -> None:
    box = InventoryEnv(InventoryProblem(lead_time=0), DEMAND).observation_space
    assert isinstance(box, gymnasium.spaces.Box)
    assert (box.high > box.low).all()  # gymnasium warns of others


class OneOf(gymnasium.Env[np.ndarray, np.ndarray]):
    """A vector environment of one episode as a single one: gymnasium's checker knows no others."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's own name)

    def __init__(self, many: InventoryVectorEnv) -> None:
        self.many = many
        self.observation_space, self.action_space = many.single_observation_space, many.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        seen, info = self.many.reset(seed=seed, options=options)
        self.np_random = self.many.np_random
        return seen[0], info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        seen, reward, ended, cut, info = self.many.step(action[None])
        return seen[0], float(reward[0]), bool(ended[0]), bool(cut[0]), info


@pytest.mark.parametrize("problem", [PROBLEM, InventoryProblem(1.0, 9.0, 2, backlog=True)])
def test_gymnasium_checks_the_vector_environment(problem: InventoryProblem) -> None:
    with np.errstate(all="raise"):
        check_env(OneOf(InventoryVectorEnv(problem, DEMAND, count=1, length=5)), skip_render_check=True)


@pytest.mark.parametrize("backlog", [False, True])
def test_an_episode_is_what_the_simulator_says(backlog: bool) -> None:  # noqa: FBT001
    problem = InventoryProblem(
        1.0, 9.0, 2, backlog=backlog, trade=Trade(3.0, 1.0, 2.0), rules=OrderRules(case_pack=3.0)
    )
    env = InventoryEnv(problem, DEMAND, most=30.0)
    seen, info = env.reset(seed=1)
    row = info["series"]
    total, over, policy, split = 0.0, False, BaseStock(20.0), dict.fromkeys(SPLIT, 0.0)
    while not over:
        state = State(seen[:1].astype(np.float64), seen[None, 1:3].astype(np.float64), problem)
        seen, reward, _, over, info = env.step(policy.order(state) / 30.0)
        total += reward
        split = {name: value + info[name] for name, value in split.items()}
    ledger = simulate(policy, problem, DEMAND[row : row + 1])
    assert total == pytest.approx(float(ledger.profit))
    assert split == pytest.approx({name: float(getattr(ledger, name)) for name in SPLIT})
    for name in ("fill_rate", "cycle_service_level", "turns"):
        assert info[name] == pytest.approx(getattr(ledger, name)), name
    assert info["sold"] == pytest.approx(float(ledger.trajectory.sold[0, -1]))


def test_the_vector_environment_is_many_single_ones() -> None:
    # One series and one window: nothing is left to chance.
    problem = PROBLEM.take(np.array([2]))
    ours = InventoryVectorEnv(problem, DEMAND[2:3], count=3)
    theirs = SyncVectorEnv([lambda: InventoryEnv(problem, DEMAND[2:3])] * 3)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP == theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    ours.action_space.seed(0)
    for _ in range(30):  # two ends and new beginnings
        actions = ours.action_space.sample()
        for mine, other in zip(ours.step(actions)[:4], theirs.step(actions)[:4], strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-6)


@pytest.mark.parametrize("backlog", [False, True])
def test_in_the_step_of_a_new_beginning_nothing_has_happened(*, backlog: bool) -> None:
    problem = InventoryProblem(1.0, 9.0, 1, backlog=backlog, trade=Trade(5.0, 1.0, 2.0))
    env = InventoryVectorEnv(problem, DEMAND, count=3, length=4)
    env.reset(seed=1)
    for _ in range(4):
        *_, cut, info = env.step(np.full((3, 1), 0.5))
        assert "series" not in info
    assert cut.all()
    seen, reward, _, _, info = env.step(np.full((3, 1), 0.5))
    np.testing.assert_array_equal(info.pop("series"), env._shelves.series)
    served = {name: info.pop(name) for name in ("fill_rate", "cycle_service_level", "turns")}
    assert {name: set(values) for name, values in info.items()} == {name: {0.0} for name in info}
    assert [set(values) for values in served.values()] == [{1.0}, {1.0}, {np.inf}]
    assert not reward.any()
    assert not seen[:, 0].any()  # empty shelves
    _, reward, _, _, info = env.step(np.full((3, 1), 0.5))
    assert (info["ordered"] > 0).all()
    np.testing.assert_allclose(reward, info["income"] - sum(info[name] for name in SPLIT[:-1]))


def test_seeds_choose_series_and_windows() -> None:
    env = InventoryVectorEnv(PROBLEM, DEMAND, count=50, length=5)
    first, info = env.reset(seed=7)
    assert set(info["series"]) == {0, 1, 2, 3}
    np.testing.assert_array_equal(first, env.reset(seed=7)[0])
    seen, _, ended, cut, _ = env.step(np.full((50, 1), 0.5))
    assert env.observation_space.contains(seen)
    assert not ended.any()
    assert not cut.any()


@pytest.mark.parametrize("action", [-0.5, 1.5, np.nan])
def test_no_order_is_negative_or_beyond_the_largest(action: float) -> None:
    problem = InventoryProblem(1.0, 9.0, 2, trade=Trade(3.0, 1.0), rules=OrderRules(case_pack=0.0))
    for env, count in ((InventoryEnv(problem, DEMAND), 1), (InventoryVectorEnv(problem, DEMAND, count=2), 2)):
        env.reset(seed=0)
        with pytest.raises(ArgumentError, match=r"an action must lie in \[0, 1\], got (-0.5|1.5|nan) for episode"):
            env.step(np.array([[0.5]] * (count - 1) + [[action]]))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="length must not exceed the 12 steps of demand, got 13"):
        InventoryEnv(PROBLEM, DEMAND, length=13)
    with pytest.raises(ArgumentError, match="values for 4 series, but there are 2"):
        InventoryEnv(PROBLEM, DEMAND[:2])
    with pytest.raises(UnsupportedError, match="cannot keep a capacity or budget that series share"):
        InventoryEnv(InventoryProblem(1.0, 9.0, 2, rules=OrderRules(capacity=9.0)), DEMAND)
    with pytest.raises(ArgumentError, match=r"demand must be numbers of shape \[series, time\].*'a'"):
        InventoryEnv(InventoryProblem(), [["a", "b"]])
    with pytest.raises(ArgumentError, match=r"one action for each of 2 episodes, got an array of shape \(3, 1\)"):
        InventoryVectorEnv(PROBLEM, DEMAND.tolist(), count=2).step(np.zeros((3, 1)))
    for most in (0.0, -1.0, np.nan):
        with pytest.raises(ArgumentError, match="most must be a number above 0, got"):
            InventoryEnv(InventoryProblem(1.0, 9.0, 2), DEMAND, most=most)
    with pytest.raises(UnsupportedError, match="need a known lead_time and review_period 1"):
        InventoryEnv(InventoryProblem(lead_time=RandomLeadTime((0.5, 0.5))), DEMAND)


def test_stable_baselines_trains_on_it() -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3 = pytest.importorskip("stable_baselines3")
    env = InventoryEnv(InventoryProblem(1.0, 9.0, 2), DEMAND, length=5, most=15.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on the bounds of actions
        checker.check_env(env)
    model = sb3.PPO("MlpPolicy", env, n_steps=32, batch_size=16, seed=0, device="cpu").learn(64)
    assert env.action_space.contains(model.predict(env.reset(seed=0)[0])[0])
