# SPDX-License-Identifier: Apache-2.0
"""What a storage keeps of wishes and trials when a process dies, and who may write to it."""

import json
import math
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sirdar.errors import ArgumentError, DataError, OutputError
from sirdar.search.ledger import OptunaLedger, _storage, alone, trial_from_dict, trial_to_dict, url_of
from sirdar.search.space import Candidate
from sirdar.search.study import Options, Study, search
from sirdar.search.task import Report, Trial
from sirdar.testing.search import TOY, ToyTask, toy_cost

optuna = pytest.importorskip("optuna")
WISHES = tuple(TOY.candidate(dict.fromkeys(("part0", "part1", "part2", "part3"), n)) for n in (4, 2, 3))


def searched(storage: Path | None, task: ToyTask, enqueue: tuple[Candidate, ...] = WISHES, trials: int = 5) -> Study:
    return search(TOY, task, trials=trials, options=Options(cost=toy_cost, storage=storage, enqueue=enqueue))


def told(study: Study) -> list[tuple[int, Candidate, str]]:
    return [(trial.number, trial.candidate, trial.origin) for trial in study.trials]


def opened(storage: Path) -> Any:  # noqa: ANN401 - Optuna's study
    return optuna.load_study(study_name="toy", storage=f"sqlite:///{storage}")


@pytest.mark.parametrize("kills", [(0, 1, 0), (4,)])
def test_wishes_keep_their_order_through_kills(tmp_path: Path, kills: tuple[int, ...]) -> None:
    storage = tmp_path / "study.sqlite"
    for after in kills:
        with pytest.raises(KeyboardInterrupt):
            searched(storage, ToyTask(dies_after=after))
    assert told(searched(storage, ToyTask())) == told(searched(None, ToyTask()))


def test_a_wish_that_ended_but_was_not_told_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    storage = tmp_path / "study.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "tell", dies)
        with pytest.raises(KeyboardInterrupt):
            searched(storage, ToyTask())
    task = ToyTask()
    assert told(searched(storage, task)) == told(searched(None, ToyTask()))
    assert WISHES[0] not in task.trained


def test_a_study_with_trials_takes_wishes_once(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    searched(storage, ToyTask(), WISHES[:1], trials=2)
    study = searched(storage, ToyTask())
    assert [trial.number for trial in study.trials if trial.origin == "enqueued"] == [0, 2, 3]
    assert tuple(study.trials[number].candidate for number in (0, 2, 3)) == WISHES


def test_wishes_made_through_optuna_are_completed_or_answered_with_a_note(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    searched(storage, ToyTask(), (), trials=1)
    for wish in ({"part2": 4}, {"part9": 1}, {"part1": 3}, {"part1": 99}):
        opened(storage).enqueue_trial(wish)
    study = searched(storage, ToyTask(), (), trials=4)
    assert [str(trial.candidate) for trial in study.trials[1:3]] == [
        "part0=1 part1=1 part2=4 part3=1",
        "part0=1 part1=3 part2=1 part3=1",
    ]
    stored = opened(storage).trials
    assert stored[1].params == study.trials[1].candidate.as_dict()
    notes = [trial.user_attrs["sirdar:note"] for trial in stored if trial.state.name == "FAIL"]
    assert "no choice 'part9'" in notes[0]
    assert "must be one of (1, 2, 3, 4), got 99" in notes[1]
    assert len(notes) == 2


def test_a_wish_that_waits_twice_is_tried_once(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    searched(storage, ToyTask(), (), trials=1)
    for wish in ({"part2": 4}, {"part2": 4, "part1": 1}):
        opened(storage).enqueue_trial(wish)
    task = ToyTask()
    study = searched(storage, task, (), trials=4)
    assert [trial.origin for trial in study.trials] == ["evolution", "enqueued", "evolution", "evolution"]
    assert (
        opened(storage).trials[2].user_attrs["sirdar:note"].endswith("part2=4 part3=1 waits already, and is tried once")
    )


def test_a_wish_that_is_ended_from_outside_keeps_its_training(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"

    class Meddler(ToyTask):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            for trial in opened(storage).get_trials(states=(optuna.trial.TrialState.RUNNING,)):
                opened(storage).tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return super().evaluate(candidate, seed, report)

    study = searched(storage, Meddler())
    assert told(study) == told(searched(None, ToyTask()))
    assert told(searched(storage, ToyTask())) == told(study)
    assert [trial.state.name for trial in opened(storage).trials].count("FAIL") == len(WISHES)


def test_trials_that_another_search_wrote_are_seen_and_not_counted_twice(tmp_path: Path) -> None:
    storage, names = tmp_path / "study.sqlite", (("score", "maximise"),)
    one, other = (OptunaLedger(storage, "toy", TOY, names) for _ in range(2))
    other.end(Trial(0, WISHES[0], {"score": 1.0}))
    with pytest.raises(OutputError, match="another search wrote to study 'toy' while this one ran"):
        one.end(Trial(0, WISHES[1], {"score": 2.0}))
    other.end(Trial(0, WISHES[2], {"score": 3.0}))  # as earlier versions let two searches do
    assert [trial.candidate for trial in other.ended()] == [WISHES[0]]


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    searched(storage, ToyTask(), (), trials=2)
    study = opened(storage)
    place = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, 1)
    with sqlite3.connect(storage) as database:
        database.execute("update trial_user_attributes set value_json = ? where trial_id = ?", ('"{bad"', place))
    database.close()
    with pytest.raises(DataError, match="trial 1 of study 'toy' in this storage is damaged: JSONDecodeError"):
        searched(storage, ToyTask(), (), trials=3)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_a_study_that_is_not_a_search_is_left_alone(tmp_path: Path, directions: list[str]) -> None:
    storage = tmp_path / "study.sqlite"
    study = optuna.create_study(study_name="toy", storage=f"sqlite:///{storage}", directions=directions)
    study.ask()
    task = ToyTask()
    with pytest.raises(ArgumentError, match="study 'toy' in this storage is of another space"):
        searched(storage, task, ())
    assert not task.trained
    assert [trial.state.name for trial in opened(storage).trials] == ["RUNNING"]


def test_a_study_has_one_search_at_a_time(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    with alone(storage, "toy"), pytest.raises(OutputError, match="another search writes to study 'toy'"):
        searched(storage, ToyTask())
    with alone(storage, "another"):
        assert len(searched(storage, ToyTask()).trials) == 5
    with alone(storage, "猫"), alone(storage, "犬"), alone(storage, "a" * 300):
        pass
    (tmp_path / "link.sqlite").symlink_to(storage)
    for way in (tmp_path / "link.sqlite", f"sqlite+pysqlite:///{storage}"):
        with alone(storage, "toy"), pytest.raises(OutputError, match="another search writes"), alone(way, "toy"):
            pass
    with alone("sqlite+pysqlite:///:memory:", "toy"), alone("sqlite+pysqlite:///:memory:", "toy"):
        pass
    with pytest.raises(OutputError, match="is a folder"):
        searched(tmp_path, ToyTask())


@pytest.mark.parametrize("name", ["what?.sqlite", "100%25.sqlite", "ü 猫#:memory:.sqlite"])
def test_a_storage_is_the_file_of_its_name(tmp_path: Path, name: str) -> None:
    storage = tmp_path / name
    searched(storage, ToyTask(), (), trials=1)
    assert storage in tmp_path.iterdir()
    with alone(storage, "toy"), pytest.raises(OutputError, match="another search"):
        searched(storage, ToyTask())


SERVER = "postgresql+psycopg://server/studies"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[int, object]:
    """The connection that has each lock; one that had it and is not here any more was dropped by the server.

    No PostgreSQL here: SQLite with the functions of it that are asked, whose locks end with their connection.
    """
    import sqlalchemy

    engine_of, held = sqlalchemy.create_engine, {}

    def create_engine(url: str, **settings: Any) -> sqlalchemy.Engine:  # noqa: ANN401
        assert url == SERVER
        engine, lasting, had = engine_of("sqlite://", **settings), set(), set()

        @sqlalchemy.event.listens_for(engine, "connect")
        def _lend(connection: Any, _record: object) -> None:  # noqa: ANN401
            def lock(key: int) -> bool:
                assert -(2**63) <= key < 2**63  # a bigint
                assert connection in lasting
                if connection in had and held.get(key) is not connection:
                    raise ConnectionError
                free = held.setdefault(key, connection) is connection
                had.update({connection} if free else ())
                return free

            def set_config(name: str, value: str, _local: int) -> None:
                assert (name, value) == ("idle_session_timeout", "0")
                lasting.add(connection)

            connection.create_function("pg_try_advisory_lock", 1, lock)
            connection.create_function("set_config", 3, set_config)
            connection.execute("create table pg_settings as select 'idle_session_timeout' as name")

        @sqlalchemy.event.listens_for(engine, "handle_error")
        def _dropped(context: Any) -> None:  # noqa: ANN401
            context.is_disconnect = True

        @sqlalchemy.event.listens_for(engine, "close")
        def _let_go(connection: Any, _record: object) -> None:  # noqa: ANN401
            for key in [key for key, owner in held.items() if owner is connection]:
                del held[key]

        return engine

    monkeypatch.setattr(sqlalchemy, "create_engine", create_engine)
    return held


def test_a_study_on_a_server_has_one_search_at_a_time(held: dict[int, object]) -> None:
    with alone(SERVER, "toy"):
        with (
            pytest.raises(OutputError, match="another search writes to study 'toy' in 'postgresql"),
            alone(SERVER, "toy"),
        ):
            pytest.fail("two at once")
        with alone(SERVER, "another"):
            assert len(held) == 2
    with pytest.raises(KeyboardInterrupt), alone(SERVER, "toy"):
        raise KeyboardInterrupt
    assert not held


def test_a_lock_that_the_server_dropped_is_taken_again_unless_another_search_has_it(held: dict[int, object]) -> None:
    with alone(SERVER, "toy") as require_alone:
        require_alone()
        held.clear()
        require_alone()
        assert held
        held.clear()
        with (
            alone(SERVER, "toy"),
            pytest.raises(OutputError, match="another search writes to study 'toy'"),
        ):
            require_alone()


def test_a_trial_is_not_written_once_the_study_is_another_search_s(tmp_path: Path) -> None:
    def require_alone() -> None:
        raise OutputError

    ledger = OptunaLedger(tmp_path / "study.sqlite", "toy", TOY, (("score", "maximise"),), require_alone=require_alone)
    with pytest.raises(OutputError):
        ledger.end(Trial(0, WISHES[0], {"score": 1.0}))
    assert not ledger.ended()


def test_connections_to_postgresql_are_tried_before_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.storages, "RDBStorage", lambda url, engine_kwargs: (url, engine_kwargs))
    monkeypatch.setattr(optuna.storages, "get_storage", lambda storage: storage)
    assert _storage(SERVER) == (SERVER, {"pool_pre_ping": True})
    assert _storage("sqlite:///a.sqlite") == "sqlite:///a.sqlite"


def test_the_short_name_of_postgresql_is_known() -> None:
    assert url_of("postgres://server/studies") == "postgresql://server/studies"
    assert url_of("postgresql+psycopg://server/studies") == "postgresql+psycopg://server/studies"
    assert url_of("postgres") == "sqlite:///postgres"


def test_what_is_not_a_number_comes_back_from_json() -> None:
    # `sirdar search` writes null, since JSON has no NaN.
    row = trial_to_dict(Trial(0, TOY.smallest(), {"score": 1.0}, curve=((1, 0.5),)))
    trial = trial_from_dict(json.loads(json.dumps(row | {"measures": {"score": None}, "curve": [[1, None]]})), TOY)
    assert math.isnan(trial.measures["score"])
    assert math.isnan(trial.curve[0][1])


def test_an_opened_ledger_lists_what_waits(tmp_path: Path) -> None:
    ledger = OptunaLedger(tmp_path / "study.sqlite", "toy", TOY, (("score", "maximise"),))
    for wish in WISHES:
        ledger.enqueue(wish)
    ledger.begin(WISHES[0])
    assert ledger.waiting() == WISHES[1:]
    assert OptunaLedger(tmp_path / "study.sqlite", "toy", TOY, (("score", "maximise"),)).waiting() == WISHES


def test_a_database_that_dies_is_told_in_a_sentence(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"

    class Wrecker(ToyTask):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            storage.write_bytes(b"no database at all " * 1000)
            return super().evaluate(candidate, seed, report)

    with pytest.raises(OutputError, match=r"the storage .*study.sqlite' cannot be used any more: .*database"):
        searched(storage, Wrecker(), enqueue=())


def test_a_wish_for_what_was_trained_is_answered_with_its_trial(tmp_path: Path) -> None:
    storage, task = tmp_path / "study.sqlite", ToyTask()
    known = searched(storage, ToyTask(), (), trials=2).trials[1].candidate
    opened(storage).enqueue_trial(known.as_dict())
    study = searched(storage, task, (), trials=4)
    assert known not in task.trained
    assert len({trial.candidate for trial in study.trials}) == 4
    assert opened(storage).trials[2].user_attrs["sirdar:note"] == f"{known} was tried as trial 1"


def test_optuna_sees_curves_and_durations_of_wishes_and_proposals(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"

    class Slow(ToyTask):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            time.sleep(0.02)
            return super().evaluate(candidate, seed, report)

    study = searched(storage, Slow(), WISHES[:1], trials=2)
    for trial, seen in zip(study.trials, opened(storage).trials, strict=True):
        assert seen.intermediate_values == dict(trial.curve) != {}
        assert seen.duration.total_seconds() >= 0.02
