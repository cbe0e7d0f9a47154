# SPDX-License-Identifier: Apache-2.0
"""What winners have in common, as rules that a person can read, change and apply to a new model without any search.

A pattern becomes a rule when it is so much more frequent among the best candidates of the runs than among the others
that chance is no explanation (Fisher's exact test). Names of choices may be exact ("stage2.kind") or hold for every
position ("*.kind"): those show without the position that shows them most, and no position shows the contrary.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sirdar.errors import ArgumentError, DataError, OutputError, nearest
from sirdar.search.objectives import Objectives
from sirdar.search.space import Candidate, Choice, SearchSpace, Value
from sirdar.search.task import Trial

Verb = Literal["prefer", "avoid", "multiple", "pin", "forbid"]
_SCHEMA = 1
_GRAINS = (64, 32, 16, 8, 4)
_FEW = 6  # numbers, at most, of which one is preferred; more are widths, whose grain counts
_SHOWN = 0.02  # chance below which some positions show what all together do beyond doubt
_VERBS = ("prefer", "avoid", "multiple", "pin", "forbid")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        verb: "prefer" or "avoid" an option, keep to a "multiple"; "pin" and "forbid" are a person's and bind a search.
        where: name of a choice, or "*.kind" for all whose name ends with ".kind".
        value: the option, or the number that is divided by.
        winners: (how many of the best have it, how many best there are).
        others: likewise of the others.
        chance: probability of so large a difference by chance.

    Raises:
        ArgumentError: the verb is unknown, or a multiple is no whole number above zero.
    """

    verb: Verb
    where: str
    value: Value
    winners: tuple[int, int] = (0, 0)
    others: tuple[int, int] = (0, 0)
    chance: float | int = 0.0

    def __post_init__(self) -> None:
        if self.verb not in _VERBS:
            msg = f"the verb of a rule must be one of {', '.join(_VERBS)}, got {self.verb!r}"
            raise ArgumentError(msg)
        whole = isinstance(self.value, int) and not isinstance(self.value, bool) and self.value > 0
        if self.verb == "multiple" and not whole:
            msg = f"a multiple must be a whole number above zero, got {self.value!r}"
            raise ArgumentError(msg)

    def meets(self, name: str) -> bool:
        """Whether it speaks of a choice."""
        return name == self.where or (self.where.startswith("*") and name.endswith(self.where[1:]))

    def __str__(self) -> str:
        what = {"multiple": f"round to multiples of {self.value}"}.get(self.verb, f"{self.verb} {self.value}")
        if not self.winners[1]:
            return f"{self.where}: {what}"
        share = f"{self.winners[0]} of {self.winners[1]} winners, {self.others[0]} of {self.others[1]} others"
        return f"{self.where}: {what} ({share})"


def find_rules(
    runs: Sequence[tuple[SearchSpace, Objectives, Sequence[Trial]]], share: float = 0.25, chance: float = 0.01
) -> tuple[Rule, ...]:
    """The patterns that the best of several runs share, the clearest first.

    Args:
        runs: space, objectives and trials of each; spaces may differ.
        share: of a run's judged trials that count as its best; where there are several objectives, its front does.
        chance: probability that there is any rule by chance; a pattern becomes one where its own is less than that over
            the number of patterns that are compared (Bonferroni).

    Raises:
        ArgumentError: the share or the chance is not between 0 and 1.
    """
    for name, value in (("share of winners", share), ("chance", chance)):
        if not 0 < value < 1:
            msg = f"{name} must lie between 0 and 1, got {value!r}"
            raise ArgumentError(msg)
    best: list[Candidate] = []
    others: list[Candidate] = []
    for _, objectives, trials in runs:
        won = _winners(objectives, trials, share)
        best += [trial.candidate for trial in trials if trial.usable and trial.number in won]
        others += [trial.candidate for trial in trials if trial.usable and trial.number not in won]
    spaces = [space for space, _, _ in runs]
    places = {where: _offered(where, spaces) for where in _places(spaces)}
    each = chance / max(1, sum(len(options) + len(grains) for options, grains in places.values()))

    def general(rule: Rule) -> bool:
        return not _general(rule) or _throughout(rule, best, others)

    found = [
        rule for where, offered in places.items() for rule in _rules_of(where, offered, best, others, each, general)
    ]
    return tuple(sorted(found, key=lambda rule: (rule.chance, _general(rule), str(rule))))


def apply_rules(rules: Sequence[Rule], space: SearchSpace, start: Candidate) -> Candidate:
    """A model changed as the rules say, without any search; exact names go before general ones.

    Args:
        rules: as found or edited.
        space: says what can be chosen.
        start: the model to change.

    Raises:
        ArgumentError: a rule pins or forbids what is not among a choice's options, or speaks of no choice as it does,
            rules contradict each other, all options are forbidden, or the model has one that the space does not offer.
    """
    binding = [rule for rule in rules if rule.verb in ("pin", "forbid")]
    bind(binding, space)
    values = {choice.name: choice.options[0] for choice in space.choices}
    values |= space.candidate(values | {name: value for name, value in start.values if name in values}).as_dict()
    for choice in space.choices:
        values[choice.name] = _decided(choice, values[choice.name], _told(rules, choice))
    return space.candidate(values)


def bind(rules: Sequence[Rule], space: SearchSpace) -> SearchSpace:
    """The space as a person's "pin" and "forbid" rules leave it; of several pins of a choice, an exact name's holds.

    Raises:
        ArgumentError: they leave a choice without options, contradict each other, or speak of no choice or of what is
            no option.
    """
    binding = [rule for rule in rules if rule.verb in ("pin", "forbid")]
    _require_choices(binding, space)
    whole = space
    _require_options(binding, space)
    for choice in space.choices:
        told = _told(binding, choice)
        _refuse_contradiction(choice, told)
        pins = [rule for rule in told if rule.verb == "pin" and rule.value in choice.options]
        for rule in (*pins[:1], *(rule for rule in told if rule.verb == "forbid")):
            left = {left.name: left.options for left in space.choices}
            if choice.name not in left:  # another pin made it not matter
                continue
            if rule.verb == "pin":
                space = space.pin(choice.name, rule.value)
            elif rule.value in left[choice.name]:  # "*.kind" may forbid what not every stage has
                _allowed(choice, told)
                space = space.forbid(choice.name, rule.value)
    _refuse_left_out(binding, whole, space)
    return space


def _refuse_contradiction(choice: Choice, told: Sequence[Rule]) -> None:
    """What is pinned is not forbidden; of equal standing no two pins differ, and nothing preferred is avoided."""
    pins = [rule for rule in told if rule.verb == "pin" and rule.value in choice.options]
    if pins and any(rule.verb == "forbid" and rule.value == pins[0].value for rule in told):
        msg = f"rules pin {choice.name} to {pins[0].value} and forbid it; give one of them"
        raise ArgumentError(msg)
    others = [rule for rule in pins if _general(rule) == _general(pins[0]) and rule.value != pins[0].value]
    if others:
        msg = f"rules pin {choice.name} to {pins[0].value} and to {others[0].value}; give one of them"
        raise ArgumentError(msg)
    avoided = [(rule.value, _general(rule)) for rule in told if rule.verb == "avoid"]
    for rule in told:
        if rule.verb == "prefer" and (rule.value, _general(rule)) in avoided:
            msg = f"rules prefer {rule.value} as {choice.name} and avoid it; give one of them"
            raise ArgumentError(msg)


def _refuse_left_out(rules: Sequence[Rule], whole: SearchSpace, left: SearchSpace) -> None:
    """What is pinned must be there still: other rules may decide what it depends on otherwise."""
    names = [choice.name for choice in left.choices]
    for rule in rules:
        if rule.verb == "pin" and not any(rule.meets(name) for name in names):
            parents = {choice.parent for choice in whole.choices if rule.meets(choice.name)}
            told = f"others leave out what it speaks of, as they decide {' and '.join(sorted(parents))}"
            msg = f"rule {str(rule)!r} cannot hold: {told}; give one of them"
            raise ArgumentError(msg)


def _require_choices(rules: Sequence[Rule], space: SearchSpace) -> None:
    """Refuses rules that speak of no choice."""
    names = [choice.name for choice in space.choices]
    for rule in rules:
        if not any(rule.meets(name) for name in names):
            msg = f"rule {str(rule)!r} speaks of no choice of space {space.name!r}.{nearest(rule.where, names)}"
            raise ArgumentError(msg)


def _require_options(rules: Sequence[Rule], space: SearchSpace) -> None:
    """Refuses to pin or forbid what is no option of any choice that a rule speaks of."""
    for rule in rules:
        met = [choice for choice in space.choices if rule.meets(choice.name)]
        if met and all(rule.value not in choice.options for choice in met):
            options = ", ".join(map(str, met[0].options))
            msg = f"rule {str(rule)!r} asks for what is no option of {met[0].name}, which has {options}"
            raise ArgumentError(msg)


def write_rules(rules: Sequence[Rule], path: Path) -> None:
    """Writes rules as JSON that a person can edit; each with a sentence that says what it means.

    Raises:
        OutputError: the path is a folder, or cannot be written to.
    """
    if path.is_dir():
        msg = f"rules are written to a file, and {str(path)!r} is a folder"
        raise OutputError(msg)
    rows = [{**asdict(rule), "sentence": str(rule)} for rule in rules]
    scratch = path.with_name(path.name + ".part")
    try:
        scratch.write_text(json.dumps({"schema": _SCHEMA, "rules": rows}, indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        msg = f"rules cannot be written to {str(path)!r}: {error.strerror}"
        raise OutputError(msg) from error


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Reads what `write_rules` wrote, or a person changed.

    Raises:
        DataError: it is no such file.
        ArgumentError: a rule is wrong.
    """
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or stored.get("schema") != _SCHEMA:
            found = stored.get("schema") if isinstance(stored, dict) else stored
            msg = f"{path} must hold rules of schema {_SCHEMA}, got {found!r:.40}"
            raise DataError(msg)
        rows = stored.get("rules")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            msg = f'{path} holds no rules: "rules" must be a list of objects, got {rows!r:.40}'
            raise DataError(msg)
        return tuple(_rule(row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, ArgumentError):
            raise
        msg = f"{path} holds no rules: {error}"
        raise DataError(msg) from error


def _rule(row: dict[str, Any]) -> Rule:
    lacking = [name for name in ("verb", "where", "value") if name not in row]
    if lacking:
        msg = f"a rule needs a verb, where and a value, and {json.dumps(row):.80} has no {lacking[0]}"
        raise TypeError(msg)
    if not isinstance(row["where"], str) or not isinstance(row["value"], str | int | float):
        msg = f"a rule needs the name of a choice and one option, got {row['where']!r} and {row['value']!r}"
        raise TypeError(msg)
    counts = {name: _count(name, row.get(name, (0, 0))) for name in ("winners", "others")}
    return Rule(row["verb"], row["where"], row["value"], **counts, chance=float(row.get("chance", 0.0)))


def _count(name: str, pair: Any) -> tuple[int, int]:  # noqa: ANN401 - of JSON
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(count, int) for count in pair):
        msg = f"the {name} of a rule must be two counts, such as [9, 10], got {json.dumps(pair):.40}"
        raise TypeError(msg)
    return pair[0], pair[1]


def _winners(objectives: Objectives, trials: Sequence[Trial], share: float) -> set[int]:
    """Of several objectives the front and its equals, else the best share, in which equals stand or fall together."""
    judged = [trial for trial in trials if trial.usable]
    if objectives.several:
        front = {objectives.losses(trial.measures) for trial in objectives.pareto(trials)}
        return {trial.number for trial in judged if objectives.losses(trial.measures) in front}
    reward = {trial.number: objectives.reward(trial.measures) for trial in judged}
    if not reward:
        return set()
    wanted = max(1, round(share * len(reward)))
    least = sorted(reward.values(), reverse=True)[wanted - 1]
    best = {number for number, found in reward.items() if found >= least}
    if len(best) == wanted or 2 * len(best) <= len(reward):
        return best
    return {number for number, found in reward.items() if found > least}


def _places(spaces: Sequence[SearchSpace]) -> Iterator[str]:
    """Names of choices, and the endings that several choices share."""
    names = list(dict.fromkeys(choice.name for space in spaces for choice in space.choices))
    yield from names
    endings = [name[name.rindex(".") :] for name in names if "." in name]
    yield from (f"*{ending}" for ending in dict.fromkeys(endings) if endings.count(ending) > 1)


def _offered(where: str, spaces: Sequence[SearchSpace]) -> tuple[list[Value], tuple[int, ...]]:
    """The options and the grains that may be rules there."""
    choices = [choice for space in spaces for choice in space.choices if Rule("pin", where, 1).meets(choice.name)]
    options = list(dict.fromkeys(option for choice in choices for option in choice.options))
    numeric = all(choice.numeric for choice in choices)
    return options if not numeric or len(options) <= _FEW else [], _GRAINS if numeric else ()


def _rules_of(
    where: str,
    offered: tuple[list[Value], tuple[int, ...]],
    best: Sequence[Candidate],
    others: Sequence[Candidate],
    chance: float,
    general: Callable[[Rule], bool],
) -> Iterator[Rule]:
    options, grains = offered
    found = (_compared(Rule("prefer", where, option), best, others) for option in options)
    found = [rule for rule in found if rule.chance < chance and general(rule)]
    single = [rule if _more(rule) else replace(rule, verb="avoid") for rule in found]
    rules = (_compared(Rule("multiple", where, grain), best, others) for grain in grains)
    more = [rule for rule in rules if rule.chance < chance and _more(rule) and general(rule)]
    clearest = min(more, key=lambda rule: rule.chance, default=None)  # of equals the largest
    if clearest is not None and all(clearest.chance < rule.chance for rule in single):
        single = [clearest]
    yield from single


def _throughout(rule: Rule, best: Sequence[Candidate], others: Sequence[Candidate]) -> bool:
    """Whether it shows without the position that shows it most, and no position alone shows the contrary.

    What one position shows clearly would else be said of all of them.
    """
    names = dict.fromkeys(name for candidate in (*best, *others) for name, _ in candidate.values if rule.meets(name))
    alone = [_compared(replace(rule, where=name), best, others) for name in names]
    shown = [one for one in alone if _more(one) == _more(rule)]
    if any(one.chance < _SHOWN for one in alone if one not in shown):
        return False
    if not shown:  # of conditional choices: it is whether a position is there at all that tells
        return False
    strongest = min(shown, key=lambda one: one.chance).where
    rest = _compared(rule, best, others, without=strongest)
    return rest.chance < _SHOWN and _more(rest) == _more(rule)


def _more(rule: Rule) -> bool:
    """Whether it holds for more of the best than of the others."""
    return rule.winners[0] * rule.others[1] > rule.others[0] * rule.winners[1]


def _compared(rule: Rule, best: Sequence[Candidate], others: Sequence[Candidate], without: str = "") -> Rule:
    """The rule with its counts and its probability by chance, over all choices that it speaks of but one."""
    from scipy.stats import fisher_exact

    counts = []
    for group in (best, others):
        named = [pair for candidate in group for pair in candidate.values if pair[0] != without]
        seen = [option for name, option in named if rule.meets(name)]
        counts.append((sum(_has(rule, option) for option in seen), len(seen)))
    (a, n), (b, m) = counts
    p = float(fisher_exact([[a, n - a], [b, m - b]])[1]) if n and m else 1.0  # pyright: ignore[reportArgumentType]
    return replace(rule, winners=(a, n), others=(b, m), chance=p)


def _has(rule: Rule, option: Value) -> bool:
    """Whether an option is what the rule speaks of."""
    if rule.verb != "multiple":
        return option == rule.value
    return float(option) > 0 and float(option) % float(rule.value) == 0


def _told(rules: Sequence[Rule], choice: Choice) -> list[Rule]:
    """The rules that speak of a choice, exact names before general ones."""
    return sorted((rule for rule in rules if rule.meets(choice.name)), key=_general)


def _general(rule: Rule) -> bool:
    """Whether it may speak of several choices."""
    return rule.where.startswith("*")


def _allowed(choice: Choice, told: Sequence[Rule]) -> list[Value]:
    """The options that are not forbidden.

    Raises:
        ArgumentError: all are.
    """
    forbidden = [rule.value for rule in told if rule.verb == "forbid"]
    allowed = [option for option in choice.options if option not in forbidden]
    if not allowed:
        msg = f"rules forbid all options of {choice.name}: {', '.join(map(str, choice.options))}"
        raise ArgumentError(msg)
    return allowed


def _decided(choice: Choice, present: Value, told: Sequence[Rule]) -> Value:
    """What rules make of an option: a pin decides, then a preference; what must not be gives way, the rest is rounded.

    What is forbidden is not preferred, nor is what an exact rule avoids where a general one prefers it.
    """
    _refuse_contradiction(choice, told)
    for rule in told:
        if rule.verb == "pin" and rule.value in choice.options:
            return rule.value
    allowed = _allowed(choice, told)
    avoided: list[Value] = []
    for rule in told:
        if rule.verb == "avoid":
            avoided.append(rule.value)
        elif rule.verb == "prefer" and rule.value in allowed and rule.value not in avoided:
            return rule.value
    left = [option for option in allowed if option not in avoided] or allowed
    place = choice.options.index(present)
    present = min(left, key=lambda option: abs(choice.options.index(option) - place))
    grain = next((rule.value for rule in told if rule.verb == "multiple"), None)
    if grain is None or not choice.numeric:
        return present
    if not float(present):  # no such layer
        return present
    filled = [option for option in left if float(option) > 0 and float(option) % float(grain) == 0]
    return min(filled, key=lambda option: (abs(float(option) - float(present)), -float(option)), default=present)
