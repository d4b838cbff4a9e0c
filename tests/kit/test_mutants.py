"""The kit finds broken engines; a sound one it leaves in peace."""

from __future__ import annotations

import pytest
from tests.kit.corpus import Case, corpus, explore_all
from tests.kit.mutants import MUTANTS, SCHEDULES_MAX, SMALL, Hunt, kill, silence
from tests.kit.planting import Edit, Mutant, code_with, function_of, planted

from durable_core.testing.plan import Faults

QUICK = [mutant for mutant in MUTANTS if mutant.quick]
CASES = {case.name: case for case in corpus()}


@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: str(mutant.name))
def test_the_kit_kills(mutant: Mutant) -> None:
    found = kill(mutant)
    assert found.by is not None, mutant.sentence
    assert found.met > 0, "the defect was never met"
    assert found.schedules <= SCHEDULES_MAX


def test_there_are_enough_mutants_each_with_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    assert 8 <= len(QUICK) <= 14


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_a_mutant_differs_from_the_engine_while_it_is_planted_and_no_longer(
    mutant: Mutant,
) -> None:
    functions = [function_of(edit.function) for edit in mutant.edits]
    sound = [function.__code__ for function in functions]
    as_they_were = [
        code_with(function, Edit(edit.function, edit.old, edit.old))
        for function, edit in zip(functions, mutant.edits, strict=True)
    ]
    with planted(mutant):
        for function, code in zip(functions, as_they_were, strict=True):
            assert _told(function.__code__) != _told(code)
    assert [function.__code__ for function in functions] == sound


def _told(code: object) -> tuple[object, ...]:
    parts = ("co_code", "co_consts", "co_names", "co_varnames")
    return tuple(
        tuple(_told(one) if hasattr(one, "co_code") else one for one in getattr(code, part))
        for part in parts
    )


def test_a_mutant_that_does_not_fit_the_source_is_an_error() -> None:
    edit = Edit("durable_core.kernel.saga:pending", "no such text", "")
    with pytest.raises(LookupError, match="no such text"), planted(Mutant("x", "", (edit,))):
        raise AssertionError("it cannot be planted")


@pytest.mark.parametrize("name", SMALL)
def test_a_sound_engine_passes_every_trial(name: str) -> None:
    hunt = Hunt()
    with silence():
        assert hunt.one(CASES[name], Faults()) is None
        assert hunt.trials(CASES[name]) is None, hunt.plan


@pytest.mark.parametrize("case", corpus()[::20], ids=lambda case: str(case.name))
def test_single_faults_over_a_sample_of_the_corpus(case: Case) -> None:
    with silence():
        print(explore_all([case]))


def test_the_corpus_holds_every_pair_of_kinds() -> None:
    kinds = {tuple(node.kind for node in case.workflow.nodes) for case in CASES.values()}
    assert len({pair for pair in kinds if len(pair) == 2}) >= 64
    assert len(CASES) == len(corpus()) >= 60
