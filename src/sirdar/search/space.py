# SPDX-License-Identifier: Apache-2.0
"""Search spaces as plain data: choices, the networks they stand for, and ways to move among them.

A space is a list of choices. A choice may depend on an earlier one ("the kernel of block 3 matters where the depth is 3
or more"); what does not matter is not part of a candidate, so that two candidates are equal exactly when their networks
are, and the size of the space is exact. How a network is built from a candidate is the task's business.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from sirdar.errors import ArgumentError, DataError, nearest

Value = str | int | float | bool
_SCHEMA = 1


@dataclass(frozen=True)
class Choice:
    """One decision.

    Args:
        name: unique in its space, such as "stage2.kernel".
        options: what can be chosen; numbers rising. A list becomes a tuple, as it does for `when`.
        parent: an earlier choice on which this one depends; empty for none.
        when: the parent's options under which this choice matters.

    Raises:
        ArgumentError: there is no option, one stands twice, as 1 and 1.0 do, one is neither text nor number, such as
            one of numpy's, or numbers do not rise or are not finite.
    """

    name: str
    options: tuple[Value, ...]
    parent: str = ""
    when: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))  # else what is read from a storage is no equal
        object.__setattr__(self, "when", tuple(self.when))
        foreign = [option for option in self.options if type(option) not in (str, int, float, bool)]
        if foreign:
            msg = f"options of choice {self.name!r} must be plain strings, numbers or booleans, got {foreign[0]!r}"
            raise ArgumentError(msg)
        if not self.name or not self.options or len(set(self.options)) != len(self.options):
            msg = f"choice {self.name!r} needs a name and distinct options, got {self.options!r}"
            raise ArgumentError(msg)
        if self.numeric and not _rising(self.options):  # the first is the smallest network's, the last the largest's
            msg = f"options of choice {self.name!r} are numbers, which must be finite and rise, got {self.options!r}"
            raise ArgumentError(msg)
        if bool(self.parent) != bool(self.when):
            msg = f"choice {self.name!r} depends on {self.parent!r} for the options {self.when!r}: give both or neither"
            raise ArgumentError(msg)

    @property
    def numeric(self) -> bool:
        """Whether all options are numbers, so that they have an order."""
        return all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)


@dataclass(frozen=True)
class Candidate:
    """One member of a space: the options of all choices that matter, in the order of the space.

    Args:
        values: (name of the choice, option) pairs.
    """

    values: tuple[tuple[str, Value], ...]

    @cached_property
    def _lookup(self) -> dict[str, Value]:
        return dict(self.values)

    def __getitem__(self, name: str) -> Value:
        if name not in self._lookup:
            msg = f"this candidate has no choice {name!r}.{nearest(name, self._lookup)}"
            raise ArgumentError(msg)
        return self._lookup[name]

    def __contains__(self, name: str) -> bool:
        return name in self._lookup

    def get(self, name: str, default: Value) -> Value:
        """The option of a choice, or `default` where it does not matter in this candidate."""
        return self._lookup.get(name, default)

    def as_dict(self) -> dict[str, Value]:
        """Options by name of the choice."""
        return dict(self.values)

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stay the same between runs, machines and versions."""
        text = json.dumps([[name, _tagged(value)] for name, value in self.values], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


@dataclass(frozen=True)
class SearchSpace:
    """All candidates that a list of choices allows.

    Args:
        name: of the space.
        choices: parents before the choices that depend on them; a list becomes a tuple.

    Raises:
        ArgumentError: a name stands twice, or a parent is unknown, later, or lacks an option of `when`.
    """

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        seen: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in seen:
                msg = f"space {self.name!r} has two choices called {choice.name!r}"
                raise ArgumentError(msg)
            if choice.parent and (choice.parent not in seen or not _all_in(choice.when, seen[choice.parent].options)):
                msg = (
                    f"choice {choice.name!r} depends on {choice.parent!r} for the options {choice.when!r}, "
                    "but no earlier choice has them"
                )
                raise ArgumentError(msg)
            seen[choice.name] = choice

    # --- what is in it ---------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Choice:
        for choice in self.choices:
            if choice.name == name:
                return choice
        names = [choice.name for choice in self.choices]
        msg = f"space {self.name!r} has no choice {name!r}.{nearest(name, names)}"
        raise ArgumentError(msg)

    @cached_property
    def _children(self) -> dict[str, tuple[Choice, ...]]:
        names = ["", *(choice.name for choice in self.choices)]
        return {name: tuple(choice for choice in self.choices if choice.parent == name) for name in names}

    @cached_property
    def _counts(self) -> dict[str, tuple[int, ...]]:
        """For each choice and each of its options, how many ways there are to decide it and all that depends on it."""
        counts: dict[str, tuple[int, ...]] = {}
        for choice in reversed(self.choices):
            counts[choice.name] = tuple(
                math.prod(sum(counts[child.name]) for child in self._children[choice.name] if _in(option, child.when))
                for option in choice.options
            )
        return counts

    @property
    def size(self) -> int:
        """The number of distinct candidates, exactly."""
        return math.prod(sum(self._counts[choice.name]) for choice in self._children[""])

    def candidate(self, values: Mapping[str, Any] | Candidate) -> Candidate:
        """The candidate with these options; those of choices that do not matter are left out.

        Raises:
            ArgumentError: a choice that matters is missing, an option is not offered, or a name is unknown.
        """
        given = values.as_dict() if isinstance(values, Candidate) else dict(values)
        unknown = [name for name in given if name not in self._children]
        if unknown:
            hint = nearest(unknown[0], self._children)
            msg = f"space {self.name!r} has no choice {unknown[0]!r}.{hint}"
            raise ArgumentError(msg)
        decided: dict[str, Value] = {}
        for choice in self.choices:
            if not _matters(choice, decided):
                continue
            found = next((option for option in choice.options if _same(option, given.get(choice.name))), None)
            if found is None:
                msg = f"choice {choice.name!r} must be one of {choice.options}, got {given.get(choice.name)!r}"
                raise ArgumentError(msg)
            decided[choice.name] = found
        return Candidate(tuple(decided.items()))

    def __contains__(self, candidate: object) -> bool:
        if not isinstance(candidate, Candidate):
            return False
        try:
            return self.candidate(candidate) == candidate
        except ArgumentError:
            return False

    def __iter__(self) -> Iterator[Candidate]:
        """Every candidate once, in a fixed order; mind the size."""
        yield from (Candidate(tuple(rest.items())) for rest in self._completions({}, 0))

    def _completions(self, decided: dict[str, Value], place: int) -> Iterator[dict[str, Value]]:
        if place == len(self.choices):
            yield decided
            return
        choice = self.choices[place]
        for option in choice.options if _matters(choice, decided) else (None,):
            yield from self._completions(decided if option is None else {**decided, choice.name: option}, place + 1)

    # --- moves -----------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A candidate, each as likely as any other."""
        return self._completed({}, rng)

    def _completed(self, wanted: Mapping[str, Value], rng: np.random.Generator) -> Candidate:
        """What is wanted where it can be had, and the rest at random, each completion as likely as any other."""
        decided: dict[str, Value] = {}
        for choice in self.choices:
            if not _matters(choice, decided):
                continue
            if choice.name in wanted:
                decided[choice.name] = wanted[choice.name]
                continue
            counts = self._counts[choice.name]
            share = [count / sum(counts) for count in counts]  # of whole numbers, which may be too large for floats
            decided[choice.name] = choice.options[int(rng.choice(len(share), p=share))]
        return Candidate(tuple(decided.items()))

    def mutate(self, candidate: Candidate, rng: np.random.Generator, changes: int = 1) -> Candidate:
        """The candidate with `changes` of its choices decided otherwise; what comes to matter is decided at random."""
        values = candidate.as_dict()
        free = [name for name in values if len(self[name].options) > 1]
        for name in rng.permutation(np.array(free, dtype=object))[:changes]:
            others = [option for option in self[name].options if option != values[name]]
            values[name] = others[int(rng.integers(len(others)))]
        return self._completed(values, rng)

    def crossover(self, first: Candidate, second: Candidate, rng: np.random.Generator) -> Candidate:
        """Each choice as in one of two parents, evenly; as in the one that has it where only one does."""
        values: dict[str, Value] = {}
        for choice in self.choices:
            pool = [parent[choice.name] for parent in (first, second) if choice.name in parent]
            if pool:
                values[choice.name] = pool[int(rng.integers(len(pool)))]
        return self._completed(values, rng)

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Every candidate that differs in one choice; what comes to matter takes its first option."""
        values = candidate.as_dict()
        for name, present in candidate.values:
            for option in self[name].options:
                if option != present:
                    yield self._first({**values, name: option})

    def smallest(self) -> Candidate:
        """Every choice at its first option."""
        return self._first({})

    def largest(self) -> Candidate:
        """Every choice at its last option."""
        return self._first({}, last=True)

    def _first(self, wanted: Mapping[str, Value], *, last: bool = False) -> Candidate:
        decided: dict[str, Value] = {}
        for choice in self.choices:
            if _matters(choice, decided):
                decided[choice.name] = wanted.get(choice.name, choice.options[-1 if last else 0])
        return Candidate(tuple(decided.items()))

    # --- smaller spaces --------------------------------------------------------------------------------------------

    def restrict(self, options: Mapping[str, Sequence[Value]], name: str = "") -> "SearchSpace":
        """The space with fewer options of some choices, in the order they have.

        Raises:
            ArgumentError: no option of a choice is left, or a choice is unknown.
        """
        for given in options:
            self[given]
        kept: dict[str, Choice] = {}
        for choice in self.choices:
            wanted = options.get(choice.name, choice.options)
            left = tuple(option for option in choice.options if _in(option, wanted))
            if not left:
                msg = f"choice {choice.name!r} of {choice.options} has none of {tuple(wanted)}"
                raise ArgumentError(msg)
            when = tuple(o for o in choice.when if choice.parent in kept and _in(o, kept[choice.parent].options))
            if not choice.parent or when:
                kept[choice.name] = replace(choice, options=left, when=when)
        return SearchSpace(name or self.name, tuple(kept.values()))

    def pin(self, name: str, value: Value) -> "SearchSpace":
        """The space in which a choice is decided."""
        return self.restrict({name: (value,)})

    def forbid(self, name: str, value: Value) -> "SearchSpace":
        """The space in which a choice lacks an option.

        Raises:
            ArgumentError: the choice is unknown, does not have the option, or has no other.
        """
        if not _in(value, self[name].options):
            msg = f"choice {name!r} of {self[name].options} has no {value!r} to forbid"
            raise ArgumentError(msg)
        return self.restrict({name: tuple(o for o in self[name].options if not _same(o, value))})

    # --- plain data ------------------------------------------------------------------------------------------------

    def encode(self, candidate: Candidate) -> np.ndarray:
        """Numbers for a regression, [feature]: ordered options by rank in 0..1, others one column each, 0 if absent."""
        columns: list[float] = []
        for choice in self.choices:
            present = candidate.get(choice.name, "") if choice.name in candidate else None
            rank = next((i for i, o in enumerate(choice.options) if _same(o, present)), None)
            if choice.numeric:
                columns.append(0.0 if rank is None else (rank + 1) / len(choice.options))
            else:
                columns.extend(float(rank == place) for place in range(len(choice.options)))
        return np.array(columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists that JSON can hold."""
        rows = [
            {"name": c.name, "options": list(c.options)}
            | ({"parent": c.parent, "when": list(c.when)} if c.parent else {})
            for c in self.choices
        ]
        return {"schema": _SCHEMA, "name": self.name, "choices": rows}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SearchSpace":
        """The space that `to_dict` wrote, validated anew.

        Raises:
            DataError: something is missing or of another schema.
        """
        if stored.get("schema") != _SCHEMA:
            msg = f"a stored space must have schema {_SCHEMA}, got {stored.get('schema')!r}"
            raise DataError(msg)
        try:
            rows = [
                Choice(row["name"], tuple(row["options"]), row.get("parent", ""), tuple(row.get("when", ())))
                for row in stored["choices"]
            ]
            return cls(stored["name"], tuple(rows))
        except (KeyError, TypeError) as error:
            msg = f"a stored space is damaged: {error}"
            raise DataError(msg) from error


def _tagged(value: object) -> str:
    """Tells 1, 1.0, True and "1" apart, which are options of different spaces."""
    return f"{type(value).__name__}:{value!r}"


def _rising(numbers: Sequence[Any]) -> bool:
    """Whether each is finite and above the one before."""
    return all(map(math.isfinite, numbers)) and all(low < high for low, high in pairwise(numbers))


def _same(option: Value, value: object) -> bool:
    """Whether a value stands for an option: 1 does for 1.0, as JSON written elsewhere spells it, not for True."""
    return bool(option == value) and isinstance(option, bool) == isinstance(value, bool)


def _in(value: object, options: Sequence[Value]) -> bool:
    return any(_same(option, value) for option in options)


def _all_in(values: Sequence[Value], options: Sequence[Value]) -> bool:
    return all(_in(value, options) for value in values)


def _matters(choice: Choice, decided: Mapping[str, Value]) -> bool:
    return not choice.parent or (choice.parent in decided and _in(decided[choice.parent], choice.when))
