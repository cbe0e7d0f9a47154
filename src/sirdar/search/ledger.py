# SPDX-License-Identifier: Apache-2.0
"""Where trials are written down: in memory, or in Optuna's storage (SQLite, or a server's PostgreSQL).

A trial is written when it ends, in one piece. One that was under way when the process died leaves no trace, and is
proposed again; what it had taken from the queue waits again.
"""

import fcntl
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable
from urllib.parse import unquote

from sirdar.errors import ArgumentError, DataError, OutputError, UnsupportedError
from sirdar.search.engine import quiet, require_optuna
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.stopping import Curve
from sirdar.search.task import Trial

_TRIAL, _SPACE, _SPENT = "sirdar:trial", "sirdar:space", "sirdar:spent"
_CONDITIONS, _NOTE = "sirdar:conditions", "sirdar:note"
_DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # on PyPI
# As a query: servers before PostgreSQL 14 do not know the setting.
_UNHURRIED = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
_POSTGRESQL = re.compile(r"postgresql(\+\w+)?://")
_STATES = {"complete": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}


@runtime_checkable
class Ledger(Protocol):
    """Keeps the trials of one search."""

    def ended(self) -> list[Trial]:
        """All that ended, in the order in which they did."""
        ...

    def waiting(self) -> tuple[Candidate, ...]:
        """What a person wants tried, in order."""
        ...

    def begin(self, candidate: Candidate) -> None:
        """A trial starts."""
        ...

    def end(self, trial: Trial) -> None:
        """The trial that began last has ended."""
        ...

    def enqueue(self, candidate: Candidate) -> None:
        """A person wants this tried."""
        ...

    def spend(self, spent: dict[str, float]) -> dict[str, float]:
        """Adds to what the search has used up, and gives the sum."""
        ...


@final
class MemoryLedger:
    """Lists that are gone with the process."""

    def __init__(self) -> None:
        self._trials: list[Trial] = []
        self._queue: list[Candidate] = []
        self._spent: dict[str, float] = {}

    def ended(self) -> list[Trial]:
        """All that ended, in order."""
        return list(self._trials)

    def waiting(self) -> tuple[Candidate, ...]:
        """The queue."""
        return tuple(self._queue)

    def begin(self, candidate: Candidate) -> None:
        """Takes it off the queue."""
        if self._queue and self._queue[0] == candidate:
            self._queue.pop(0)

    def end(self, trial: Trial) -> None:
        """Writes it down."""
        self._trials.append(trial)

    def enqueue(self, candidate: Candidate) -> None:
        """At the end of the queue."""
        self._queue.append(candidate)

    def spend(self, spent: dict[str, float]) -> dict[str, float]:
        """Adds up by name."""
        self._spent = {name: self._spent.get(name, 0.0) + value for name, value in spent.items()}
        return dict(self._spent)


@final
class OptunaLedger:
    """An Optuna study: while the search runs, optuna-dashboard shows it, and `enqueue_trial` of it adds candidates.

    Args:
        storage: the path of an SQLite file, made if missing, or a database URL such as "postgresql://...".
        name: of the study in it.
        space: that candidates come from.
        names: of the objectives, as (name, "minimise" or "maximise") pairs.
        conditions: by name what trials depend on beside the space; those not stored yet are.
        require_alone: called before a trial is written; raises where the study is another search's, see `alone`.

    Raises:
        ArgumentError: the study there is one of another space, or of other conditions.
        DataError: a trial that is stored there cannot be read.
        OutputError: the storage cannot be opened.
        UnsupportedError: Optuna is not installed, or the database's driver.
    """

    def __init__(
        self,
        storage: str | Path,
        name: str,
        space: SearchSpace,
        names: tuple[tuple[str, str], ...],
        conditions: Mapping[str, str] | None = None,
        require_alone: Callable[[], None] = lambda: None,
    ) -> None:
        optuna = require_optuna()
        self.space, self.names = space, names
        self._require_alone = require_alone
        self._wish: Any = None
        goals = [f"{goal[:-3]}ize" for _, goal in names]
        with _opening(storage), quiet(optuna):
            self._stored = _storage(url_of(storage))
            self._study = optuna.create_study(
                storage=self._stored, study_name=name, directions=goals, load_if_exists=True
            )
        self._require_same(name, goals)
        self._require_conditions(name, conditions or {})
        self._bury()
        self._known = len(self._finished())

    def ended(self) -> list[Trial]:
        """All that ended, in the order in which they did; of those of one number, as two searches write, the first.

        Raises:
            DataError: what is stored of one cannot be read.
        """
        ended: dict[int, Trial] = {}
        for trial in map(self._read, self._finished()):
            ended.setdefault(trial.number, trial)
        return [ended[number] for number in sorted(ended)]

    def _finished(self) -> list[Any]:
        """Optuna's trials of a search that ended; those that somebody ended otherwise are not among them."""
        stored = self._study.get_trials(deepcopy=False)
        return [trial for trial in stored if trial.state.is_finished() and _TRIAL in trial.user_attrs]

    def waiting(self) -> tuple[Candidate, ...]:
        """What was enqueued here or through Optuna; missing choices take their first option.

        What is not in the space fails with a note, and so do what waits twice and what was trained before.
        """
        states = require_optuna().trial.TrialState
        queue: list[Candidate] = []
        waiting = self._study.get_trials(deepcopy=False, states=(states.WAITING,))
        # What failed may be wished for again: the reason may be gone.
        tried = {trial.candidate: trial.number for trial in self.ended() if trial.state != "failed"} if waiting else {}
        for trial in waiting:
            fixed = trial.system_attrs.get("fixed_params", {})
            whole, place = {**_complete(self.space), **fixed}, self._place(trial)
            try:
                queue.append(self._wished(whole, queue, tried))
            except ArgumentError as error:
                self._stored.set_trial_user_attr(place, _NOTE, str(error))
                self._stored.set_trial_state_values(place, states.FAIL)
                continue
            if whole != fixed:  # else Optuna draws what is missing, and the trial's parameters are not what is trained
                self._stored.set_trial_system_attr(place, "fixed_params", whole)
        return tuple(queue)

    def _wished(self, values: Mapping[str, Any], queue: list[Candidate], tried: Mapping[Candidate, int]) -> Candidate:
        candidate = self.space.candidate(values)
        if candidate in tried:
            msg = f"{candidate} was tried as trial {tried[candidate]}"
            raise ArgumentError(msg)
        if candidate in queue:
            msg = f"{candidate} waits already, and is tried once"
            raise ArgumentError(msg)
        return candidate

    def begin(self, candidate: Candidate) -> None:
        """Takes it off the queue if it waits there; proposals are written when they end."""
        if self.waiting()[:1] == (candidate,):
            self._wish = self._study.ask()
            for choice in self.space.choices:
                self._wish.suggest_categorical(choice.name, list(choice.options))

    def end(self, trial: Trial) -> None:
        """One trial of Optuna's: complete with the objectives, pruned where the curve stopped it, or failed.

        Raises:
            OutputError: another search writes to the study.
        """
        self._require_alone()
        if len(self._finished()) != self._known:
            msg = f"another search wrote to study {self._study.study_name!r} while this one ran; only one may go on"
            raise OutputError(msg)
        optuna = require_optuna()
        state = getattr(optuna.trial.TrialState, _STATES[trial.state])
        values = [trial.measures[name] for name, _ in self.names] if trial.usable else None
        facts = {**trial.measures, _TRIAL: json.dumps(trial_to_dict(trial))}  # last: what has it has all
        if not self._told(facts, values, state, trial.curve):
            made = optuna.create_trial(
                state=state,
                values=values,
                params=_complete(self.space) | trial.candidate.as_dict(),
                distributions={
                    c.name: optuna.distributions.CategoricalDistribution(c.options) for c in self.space.choices
                },
                user_attrs=facts,
                intermediate_values=dict(trial.curve),
            )
            made.datetime_start = made.datetime_complete - timedelta(seconds=trial.seconds)  # else both are now
            self._study.add_trial(made)
        self._known += 1

    def _told(self, facts: Mapping[str, Any], values: list[float] | None, state: Any, curve: Curve) -> bool:  # noqa: ANN401
        """Whether a wish takes the results: there is one under way, and nobody ended it from outside."""
        wish, self._wish = self._wish, None
        if wish is None:
            return False
        try:
            for step, value in curve:  # by the storage: Optuna reports no curve where there are several objectives
                self._stored.set_trial_intermediate_value(self._place(wish), step, value)
            for name, value in facts.items():
                wish.set_user_attr(name, value)
        except require_optuna().exceptions.UpdateFinishedTrialError:
            return False
        self._study.tell(wish, values, state=state, skip_if_finished=True)
        return True

    def enqueue(self, candidate: Candidate) -> None:
        """At the end of the queue."""
        self._study.enqueue_trial(_complete(self.space) | candidate.as_dict())

    def spend(self, spent: dict[str, float]) -> dict[str, float]:
        """Adds up by name, in the study."""
        before = self._study.user_attrs.get(_SPENT, {})
        total = {name: before.get(name, 0.0) + value for name, value in spent.items()}
        self._study.set_user_attr(_SPENT, total)
        return total

    def _require_same(self, name: str, goals: list[str]) -> None:
        stored, held = self._study.user_attrs.get(_SPACE), [d.name.lower() for d in self._study.directions]
        new = all(trial.state.name == "WAITING" for trial in self._study.get_trials(deepcopy=False))
        if stored is None and new and held == goals:
            self._study.set_user_attr(_SPACE, self.space.to_dict())
            with quiet(require_optuna()):
                self._study.set_metric_names([metric for metric, _ in self.names])
        elif stored is None or SearchSpace.from_dict(stored) != self.space or held != goals:
            msg = f"study {name!r} in this storage is of another space or has other objectives; give another name"
            raise ArgumentError(msg)

    def _require_conditions(self, name: str, conditions: Mapping[str, str]) -> None:
        stored = self._study.user_attrs.get(_CONDITIONS, {})
        others = [
            f"{key} {stored[key]!r}, not {now!r}" for key, now in conditions.items() if stored.get(key, now) != now
        ]
        if others:
            msg = f"study {name!r} in this storage was made with {' and '.join(others)}; give another storage or name"
            raise ArgumentError(msg)
        if conditions.keys() - stored.keys():
            self._study.set_user_attr(_CONDITIONS, {**stored, **conditions})

    def _read(self, stored: Any) -> Trial:  # noqa: ANN401 - Optuna's
        try:
            return trial_from_dict(json.loads(stored.user_attrs[_TRIAL]), self.space)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"trial {stored.number} of study {self._study.study_name!r} in this storage is damaged: {error!r}"
            raise DataError(msg) from error

    def _place(self, trial: Any) -> int:  # noqa: ANN401 - Optuna's
        study = self._stored.get_study_id_from_name(self._study.study_name)
        return self._stored.get_trial_id_from_study_id_trial_number(study, trial.number)

    def _bury(self) -> None:
        """What a process that died had taken from the queue waits again, in its old place."""
        states = require_optuna().trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if _TRIAL in trial.user_attrs:  # it had ended, and only that was not told
                ended = self._read(trial)
                values = [ended.measures[name] for name, _ in self.names] if ended.usable else None
                self._study.tell(trial.number, values, state=getattr(states, _STATES[ended.state]))
                continue
            self._stored.set_trial_state_values(self._place(trial), states.WAITING)


def _storage(url: str) -> Any:  # noqa: ANN401 - Optuna's
    storages = require_optuna().storages
    if not _POSTGRESQL.match(url):
        return storages.get_storage(url)
    # Its connections are idle during a training, and a server may have dropped them when it ends.
    return storages.get_storage(storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True}))


@contextmanager
def alone(storage: str | Path, name: str) -> Iterator[Callable[[], None]]:
    """Keeps other searches from a study in an SQLite file or a PostgreSQL database; a killed process lets go of it.

    A server may drop a connection, and with it the lock: what is yielded takes it again, to be called before each
    write. Other servers' databases are not guarded: there one search at a time is the caller's to see to, and one that
    finds another's trials ends.

    Raises:
        OutputError: another search has the study, the file cannot be written, or the database cannot be opened.
        UnsupportedError: the database's driver is not installed.
    """
    url = url_of(storage)
    if _POSTGRESQL.match(url):
        with _alone_on_server(storage, name) as require_alone:
            yield require_alone
        return
    file = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", url)
    if file is None or file[1] == ":memory:":
        yield lambda: None
        return
    path = Path(unquote(file[1])).resolve()  # a file has one lock, whatever links lead to it
    if path.is_dir():
        msg = f"the storage {str(storage)!r} is a folder; give the name of a file in it"
        raise OutputError(msg)
    try:
        lock = path.with_name(f".{path.name}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock").open("w")
    except OSError as error:
        msg = f"the storage {str(storage)!r} cannot be opened: {error.strerror}"
        raise OutputError(msg) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(_taken(storage, name)) from error
        yield lambda: None


@contextmanager
def _alone_on_server(storage: str | Path, name: str) -> Iterator[Callable[[], None]]:
    """PostgreSQL's advisory lock of the study's name, which the server drops with the connection that holds it."""
    with _opening(storage):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        # Without a transaction: a server may end the connections in which one stays idle, as it would for hours.
        engine = create_engine(url_of(storage), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        connection = engine.connect()
    key = int.from_bytes(hashlib.sha256(f"sirdar:{name}".encode()).digest()[:8], signed=True)

    def require_alone() -> None:
        if not _locked(connection, key):
            raise OutputError(_taken(storage, name))

    with connection:
        with _opening(storage):
            require_alone()
        yield require_alone


def _locked(connection: Any, key: int) -> bool:  # noqa: ANN401 - SQLAlchemy's
    """Whether a connection to PostgreSQL has a lock or gets it; it is opened anew where the server dropped it."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    def locked() -> bool:
        connection.execute(text(_UNHURRIED))
        return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())

    try:
        return locked()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    connection.rollback()
    return locked()


@contextmanager
def used(storage: str | Path) -> Iterator[None]:
    """A database that fails within is told as a storage that cannot be used.

    Raises:
        OutputError: it failed.
    """
    require_optuna()
    try:
        yield
    except _database_errors() as error:
        raise OutputError(_failed(storage, "cannot be used any more", error)) from error


@contextmanager
def _opening(storage: str | Path) -> Iterator[None]:
    """What fails within is told as a storage that cannot be opened, or a driver that is missing."""
    try:
        yield
    except ImportError as error:
        driver = str(getattr(error.__cause__ or error, "name", None))
        msg = f"the storage {str(storage)!r} needs a driver, {driver}: pip install '{_DRIVERS.get(driver, driver)}'"
        raise UnsupportedError(msg) from error
    except (OSError, ValueError, *_database_errors()) as error:  # ValueError: of a malformed URL
        raise OutputError(_failed(storage, "cannot be opened", error)) from error


def _failed(storage: str | Path, told: str, error: Exception) -> str:
    cause = error.__cause__ or error  # Optuna's own words do not tell what the database said
    return f"the storage {str(storage)!r} {told}: {str(cause).splitlines()[0]}"


def _taken(storage: str | Path, name: str) -> str:
    return f"another search writes to study {name!r} in {str(storage)!r}; wait for it, or give another storage"


def url_of(storage: str | Path) -> str:
    """A path as the URL of an SQLite file; a URL stays as it is, but for the short name that some give PostgreSQL."""
    text = re.sub(r"^postgres(?=://)", "postgresql", str(storage))
    return text if "://" in text else "sqlite:///" + text.replace("%", "%25").replace("?", "%3F")


def trial_to_dict(trial: Trial) -> dict[str, Any]:
    """Plain dictionaries and lists that JSON can hold."""
    return {
        "number": trial.number,
        "candidate": trial.candidate.as_dict(),
        "measures": dict(trial.measures),
        "state": trial.state,
        "origin": trial.origin,
        "curve": [list(point) for point in trial.curve],
        "seconds": trial.seconds,
        "note": trial.note,
    }


def trial_from_dict(row: dict[str, Any], space: SearchSpace) -> Trial:
    """What `trial_to_dict` wrote."""
    curve = tuple((int(step), _number(value)) for step, value in row["curve"])
    measures = {name: _number(value) for name, value in row["measures"].items()}
    rest = {name: row[name] for name in ("number", "state", "origin", "seconds", "note")}
    return Trial(candidate=space.candidate(row["candidate"]), measures=measures, curve=curve, **rest)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)  # JSON has no NaN


def _complete(space: SearchSpace) -> dict[str, Any]:
    """An option of every choice, whether it matters or not: Optuna's storage wants all of them."""
    return {choice.name: choice.options[0] for choice in space.choices}


def _database_errors() -> tuple[type[Exception], ...]:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return StorageInternalError, SQLAlchemyError
