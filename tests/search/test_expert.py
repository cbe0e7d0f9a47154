# SPDX-License-Identifier: Apache-2.0
"""Rules found in runs whose winning pattern was planted, edited as a person would, and applied to another model."""

import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from sirdar.errors import ArgumentError, DataError, OutputError
from sirdar.search.expert import Rule, apply_rules, bind, find_rules, read_rules, write_rules
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.spaces import stages
from sirdar.search.task import Trial

WANTED = Objectives((Objective("score", "maximise"),))
SPACE = stages("three stages", [(16, 20, 24, 32)] * 3, kinds=("ibn", "fused", "depthwise"), depths=(1, 2))


def run(seed: int, count: int = 80) -> tuple[SearchSpace, Objectives, list[Trial]]:
    """Fused early stages, channels in multiples of 16 and no depthwise blocks earn; all else does not matter."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        candidate = SPACE.sample(rng)
        values = candidate.as_dict()
        score = 2.0 * (values["stage1.kind"] == "fused")
        score += sum(1.0 * (values[f"stage{n}.channels"] % 16 == 0) for n in (1, 2, 3))  # type: ignore[operator]
        score -= sum(1.0 * (values[f"stage{n}.kind"] == "depthwise") for n in (1, 2, 3))
        trials.append(Trial(number, candidate, {"score": score + 0.1 * rng.standard_normal()}))
    return SPACE, WANTED, trials


def test_what_was_planted_is_found_and_nothing_else() -> None:
    rules = find_rules([run(seed) for seed in range(4)], chance=1e-4)
    told = {(rule.verb, rule.where, rule.value) for rule in rules}
    assert ("prefer", "stage1.kind", "fused") in told
    assert ("avoid", "*.kind", "depthwise") in told
    assert ("multiple", "*.channels", 16) in told
    assert not any("kernel" in rule.where or "depth" in rule.where for rule in rules)
    first = next(rule for rule in rules if rule.where == "stage1.kind" and rule.verb == "prefer")
    assert str(first).startswith("stage1.kind: prefer fused (")
    assert "winners" in str(first)


@pytest.mark.parametrize(("name", "value"), [("kernel", 5), ("deep", 0.5), ("clusters", 15), ("clusters", 0)])
def test_one_option_of_few_may_be_what_winners_share(name: str, value: float) -> None:
    options = {"kernel": (3, 5, 7), "deep": (0.5, 0.75, 1.0), "clusters": (0, 15, 31)}
    space = SearchSpace("s", tuple(Choice(f"stage{k}.{n}", o) for k in (1, 2, 3) for n, o in options.items()))
    rng, trials = np.random.default_rng(0), []
    for number in range(200):
        candidate = space.sample(rng)
        score = sum(candidate[f"stage{k}.{name}"] == value for k in (1, 2, 3)) + 0.01 * rng.normal()
        trials.append(Trial(number, candidate, {"score": score}))
    found = find_rules([(space, Objectives((Objective("score", "maximise"),)), trials)])
    assert (found[0].verb, found[0].where, found[0].value) == ("prefer", f"*.{name}", value)


def test_a_front_is_what_wins_where_there_are_several_objectives() -> None:
    both = Objectives((Objective("score", "maximise"), Objective("latency_s")))
    trials = [Trial(n, SPACE.smallest(), {"score": float(n), "latency_s": float(n)}) for n in range(5)]
    assert find_rules([(SPACE, both, trials)]) == ()


def test_rules_change_another_model_without_search() -> None:
    rules = [
        Rule("multiple", "*.channels", 8),
        Rule("avoid", "*.kind", "depthwise"),
        Rule("prefer", "stage1.kind", "fused"),
    ]
    space = stages("two stages", [(10, 12, 16, 20), (20, 24, 30)], kinds=("ibn", "fused", "depthwise"))
    start = space.candidate(
        {
            "stage1.channels": 12,
            "stage1.depth": 2,
            "stage1.kind": "ibn",
            "stage1.kernel": 3,
            "stage1.expansion": 4,
            "stage2.channels": 30,
            "stage2.depth": 1,
            "stage2.kind": "depthwise",
            "stage2.kernel": 5,
        }
    )
    changed = apply_rules(rules, space, start)
    assert (changed["stage1.channels"], changed["stage2.channels"]) == (16, 24)
    assert (changed["stage1.kind"], changed["stage2.kind"]) == ("fused", "fused")
    assert (changed["stage1.depth"], changed["stage2.kernel"]) == (2, 5)
    assert apply_rules([], space, start) == start


def test_a_model_with_what_the_space_does_not_offer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="choice 'stage1.kind' must be one of .*, got 'round'"):
        apply_rules([], SPACE, Candidate((("stage1.kind", "round"),)))


def test_exact_rules_go_before_general_ones() -> None:
    rules = [Rule("prefer", "*.kind", "ibn"), Rule("prefer", "stage2.kind", "fused")]
    changed = apply_rules(rules, SPACE, SPACE.smallest())
    assert (changed["stage1.kind"], changed["stage2.kind"]) == ("ibn", "fused")


def test_pins_and_forbids_bind_a_search() -> None:
    bound = bind(
        [Rule("pin", "stage1.kind", "fused"), Rule("forbid", "*.kernel", 5), Rule("prefer", "*.depth", 2)], SPACE
    )
    assert bound["stage1.kind"].options == ("fused",)
    assert bound["stage3.kernel"].options == (3,)
    assert bound["stage1.depth"].options == (1, 2)
    with pytest.raises(ArgumentError, match="no option of stage1.kernel, which has 3, 5"):
        bind([Rule("pin", "*.kernel", 7)], SPACE)


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ([Rule("prefer", "stage1.kind", "fused"), Rule("pin", "*.kind", "ibn")], "ibn"),
        ([Rule("pin", "*.kind", "ibn"), Rule("pin", "stage1.kind", "fused")], "fused"),
        ([Rule("prefer", "stage1.kind", "fused"), Rule("forbid", "*.kind", "fused")], "ibn"),
        ([Rule("prefer", "*.kind", "fused"), Rule("avoid", "stage1.kind", "fused")], "ibn"),
        ([Rule("avoid", "*.kind", "fused"), Rule("prefer", "stage1.kind", "fused")], "fused"),
        (
            [Rule("forbid", "*.kind", "ibn"), Rule("avoid", "*.kind", "fused"), Rule("avoid", "*.kind", "depthwise")],
            "fused",
        ),
    ],
)
def test_a_person_overrules_and_exact_names_go_first(rules: list[Rule], kind: str) -> None:
    for told in (rules, rules[::-1]):
        assert apply_rules(told, SPACE, SPACE.smallest())["stage1.kind"] == kind


def test_what_is_pinned_must_not_be_forbidden() -> None:
    rules = [Rule("pin", "*.kind", "ibn"), Rule("forbid", "stage1.kind", "ibn")]
    space = SearchSpace("s", (Choice("stage1.kind", ("ibn", "fused")),))
    for use in (lambda: bind(rules, space), lambda: apply_rules(rules, space, space.smallest())):
        with pytest.raises(ArgumentError, match="rules pin stage1.kind to ibn and forbid it; give one of them"):
            use()


def test_what_a_pin_asks_for_must_be_there() -> None:
    for where in ("stage1.kind", "*.kind"):
        with pytest.raises(ArgumentError, match="no option of stage1.kind, which has ibn, fused, depthwise"):
            apply_rules([Rule("pin", where, "fussed")], SPACE, SPACE.smallest())
    with pytest.raises(ArgumentError, match="forbid all options of stage1.kernel: 3, 5"):
        apply_rules([Rule("forbid", "*.kernel", n) for n in (3, 5)], SPACE, SPACE.smallest())
    for where in ("stage9.kind", "*.kinds"):
        with pytest.raises(ArgumentError, match="speaks of no choice of space"):
            apply_rules([Rule("pin", where, "fused")], SPACE, SPACE.smallest())


def test_a_pin_may_leave_other_rules_nothing_to_say() -> None:
    space = SearchSpace("k", (Choice("kind", ("ibn", "fused")), Choice("expansion", (1, 2), "kind", ("ibn",))))
    rules = [Rule("forbid", "expansion", 2), Rule("pin", "kind", "fused")]
    assert [choice.name for choice in bind(rules, space).choices] == ["kind"]
    both = [Rule("pin", "*kind", "ibn"), Rule("pin", "kind", "fused")]
    assert bind(both, space)["kind"].options == ("fused",)
    with pytest.raises(ArgumentError, match="speaks of no choice of space 'k'. Did you mean 'kind'"):
        bind([Rule("pin", "kinds", "fused")], space)


def test_rules_are_written_to_a_file(tmp_path: Path) -> None:
    for path in (Path(), tmp_path):
        with pytest.raises(OutputError, match="is a folder"):
            write_rules([], path)
    with pytest.raises(OutputError, match="cannot be written to .*No such file"):
        write_rules([], tmp_path / "missing" / "rules.json")


def test_a_person_edits_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    write_rules([Rule("prefer", "*.kind", "fused", (9, 10), (1, 10), 1e-3)], path)
    stored = json.loads(path.read_text())
    assert "9 of 10 winners" in stored["rules"][0]["sentence"]
    stored["rules"][0]["verb"] = "pin"
    path.write_text(json.dumps(stored))
    assert read_rules(path) == (Rule("pin", "*.kind", "fused", (9, 10), (1, 10), 1e-3),)
    path.write_text('{"schema": 7}')
    with pytest.raises(DataError, match="schema 1, got 7"):
        read_rules(path)
    path.write_text('{"schema": 1, "rules": [{"verb": "prefer", "where": 5, "value": [1]}]}')
    with pytest.raises(DataError, match=r"holds no rules: .* got 5 and \[1\]"):
        read_rules(path)
    path.write_text('{"schema": 1, "rules": [{"where": "a"}]}')
    with pytest.raises(DataError, match="holds no rules: a rule needs .* has no verb"):
        read_rules(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"space": []}', "must hold rules of schema 1, got None"),
        ("[1, 2]", r"must hold rules of schema 1, got \[1, 2\]"),
        ('{"schema": 1}', '"rules" must be a list of objects, got None'),
        ('{"schema": 1, "rules": {"a": 1}}', "\"rules\" must be a list of objects, got {'a': 1}"),
        ('{"schema": 1, "rules": ["pin"]}', r'"rules" must be a list of objects, got \[\'pin\'\]'),
    ],
)
def test_what_is_no_rules_file_is_told_in_words(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_rules(path)


def test_what_is_no_option_cannot_be_forbidden() -> None:
    for where in ("stage1.kind", "*.kind"):
        for use in (bind, lambda rules, space: apply_rules(rules, space, space.smallest())):
            with pytest.raises(ArgumentError, match="no option of stage1.kind, which has ibn, fused, depthwise"):
                use([Rule("forbid", where, "fussed")], SPACE)
    uneven = SearchSpace("k", (Choice("a.kind", ("ibn", "fused")), Choice("b.kind", ("ibn", "depthwise"))))
    bound = bind([Rule("forbid", "*.kind", "depthwise"), Rule("pin", "b.kind", "ibn")], uneven)
    assert [choice.options for choice in bound.choices] == [("ibn", "fused"), ("ibn",)]


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(ArgumentError, match="whole number above zero, got 0"):
        Rule("multiple", "*.channels", 0)
    with pytest.raises(ArgumentError, match="between 0 and 1, got 2.0"):
        find_rules([], share=2.0)
    with pytest.raises(ArgumentError, match="chance must lie between 0 and 1, got 2.0"):
        find_rules([], chance=2.0)


def noise(seed: int, levels: int | None) -> tuple[SearchSpace, Objectives, list[Trial]]:
    """Scores that have nothing to do with the candidates; of few levels, so that most are equal, or of any value."""
    rng = np.random.default_rng(seed)
    candidates = [SPACE.sample(rng) for _ in range(60)]
    scores = rng.standard_normal(60) if levels is None else rng.integers(0, levels, 60)
    rows = enumerate(zip(candidates, scores, strict=True))
    return SPACE, WANTED, [Trial(number, candidate, {"score": float(score)}) for number, (candidate, score) in rows]


@pytest.mark.parametrize("elsewhere", [0.0, -0.25])
def test_what_one_position_shows_is_no_rule_for_all(elsewhere: float) -> None:
    # Without the check "*.kind: prefer fused" is found in 20 of 20 histories where others have no effect.
    space = SearchSpace("s", tuple(Choice(f"s{n}.kind", ("ibn", "fused", "depthwise")) for n in (1, 2)))
    general = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        candidates = [space.sample(rng) for _ in range(100)]
        scores = [
            (c["s1.kind"] == "fused") + elsewhere * (c["s2.kind"] == "fused") + 0.3 * rng.standard_normal()
            for c in candidates
        ]
        trials = [Trial(n, c, {"score": float(v)}) for n, (c, v) in enumerate(zip(candidates, scores, strict=True))]
        found = find_rules([(space, WANTED, trials)])
        assert ("s1.kind", "fused") in {(rule.where, rule.value) for rule in found}
        general += any(rule.where == "*.kind" for rule in found)
    assert general <= 2


@pytest.mark.parametrize("count", [100, 300])
def test_what_all_positions_show_is_a_rule_for_all(count: int) -> None:
    space = SearchSpace("s", tuple(Choice(f"s{n}.kind", ("ibn", "fused", "depthwise")) for n in (1, 2, 3)))
    rng = np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(count)]
    scores = [sum(value == "fused" for _, value in c.values) + 0.3 * rng.standard_normal() for c in candidates]
    trials = [Trial(n, c, {"score": float(v)}) for n, (c, v) in enumerate(zip(candidates, scores, strict=True))]
    found = {(rule.verb, rule.where, rule.value) for rule in find_rules([(space, WANTED, trials)])}
    assert ("prefer", "*.kind", "fused") in found


def test_a_rule_that_no_position_shows_is_none() -> None:
    """What tells is whether there is a second position at all; the option that it then has is no cause."""
    kinds = ("p", "q")
    choices = (Choice("deep", ("no", "yes")), Choice("a.kind", kinds), Choice("b.kind", kinds, "deep", ("yes",)))
    space = SearchSpace("s", choices)
    winners = [{"deep": "yes", "a.kind": kinds[n % 2], "b.kind": "q"} for n in range(100)]
    others = [{"deep": "no", "a.kind": kinds[n % 2]} for n in range(300)]
    trials = [
        Trial(n, space.candidate(values), {"score": float(n < 100) + 1e-4 * n})
        for n, values in enumerate([*winners, *others])
    ]
    assert "*.kind" not in {rule.where for rule in find_rules([(space, WANTED, trials)])}


def test_equal_scores_are_no_evidence() -> None:
    """Early trials are random and late ones alike, as evolution has them; all score the same."""
    rng = np.random.default_rng(0)
    late = SPACE.sample(rng)
    candidates = [SPACE.sample(rng) for _ in range(15)] + [SPACE.mutate(late, rng) for _ in range(45)]
    trials = [Trial(number, candidate, {"score": 0.0}) for number, candidate in enumerate(candidates)]
    assert find_rules([(SPACE, WANTED, trials)]) == ()


@pytest.mark.parametrize("levels", [2, None])
def test_noise_has_rules_as_seldom_as_asked_for(levels: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One study in a hundred, at most, at the chance of .01."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a tenth of the time; others check the types
    assert sum(bool(find_rules([noise(seed, levels)])) for seed in range(20)) <= 1


def test_what_equals_the_front_wins_with_it() -> None:
    space = SearchSpace("s", (Choice("A", ("x", "y", "z")), Choice("B", (1, 2, 3))))
    worth = {"x": (1.0, 1.0), "y": (0.5, 2.0), "z": (0.4, 2.0)}
    both = Objectives((Objective("score", "maximise"), Objective("latency_s")))
    rng, trials = np.random.default_rng(0), []
    for number in range(120):
        candidate = space.sample(rng)
        score, latency = worth[str(candidate["A"])]
        trials.append(Trial(number, candidate, {"score": score, "latency_s": latency}))
    found = find_rules([(space, both, trials)])
    assert (found[0].verb, found[0].where, found[0].value) == ("prefer", "A", "x")
    assert found[0].others[0] == 0


def test_no_layer_is_no_layer_that_fills_a_grain() -> None:
    space = SearchSpace("s", (Choice("top.channels", (0, 12, 32)),))
    rule = [Rule("multiple", "*.channels", 16)]
    assert apply_rules(rule, space, space.candidate({"top.channels": 12}))["top.channels"] == 32
    assert apply_rules(rule, space, space.candidate({"top.channels": 0}))["top.channels"] == 0


NESTED = SearchSpace(
    "nested",
    (Choice("a.kind", ("ibn", "fused")), Choice("a.expansion", (2, 4), "a.kind", ("ibn",)), Choice("n", (1, 2))),
)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([Rule("pin", "n", 1), Rule("pin", "n", 2)], "rules pin n to [12] and to [12]; give one of them"),
        ([Rule("pin", "*.kind", "ibn"), Rule("pin", "*kind", "fused")], "rules pin a.kind to .* and to .*; give one"),
        (
            [Rule("pin", "a.expansion", 4), Rule("pin", "a.kind", "fused")],
            "'a.expansion: pin 4' cannot hold: .* a.kind",
        ),
        ([Rule("pin", "n", 1), Rule("pin", "n", 3)], "'n: pin 3' asks for what is no option of n"),
        ([Rule("forbid", "n", 1), Rule("forbid", "n", 2)], "rules forbid all options of n: 1, 2"),
    ],
)
def test_rules_that_contradict_each_other_are_refused_in_any_order(rules: list[Rule], told: str) -> None:
    for given in (rules, rules[::-1]):
        for use in (lambda given: bind(given, NESTED), lambda given: apply_rules(given, NESTED, NESTED.smallest())):
            with pytest.raises(ArgumentError, match=told):
                use(given)


def test_what_is_preferred_is_not_avoided() -> None:
    for where in ("a.kind", "*.kind"):
        rules = [Rule("prefer", where, "fused"), Rule("avoid", where, "fused")]
        with pytest.raises(ArgumentError, match="rules prefer fused as a.kind and avoid it; give one of them"):
            apply_rules(rules, NESTED, NESTED.smallest())


def test_counts_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    row = {"verb": "pin", "where": "n", "value": 1, "winners": 3}
    path.write_text(json.dumps({"schema": 1, "rules": [row]}))
    with pytest.raises(DataError, match=r"the winners of a rule must be two counts, such as \[9, 10\], got 3"):
        read_rules(path)
