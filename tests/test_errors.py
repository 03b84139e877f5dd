"""Errors come out of a worker process as they were raised there."""

import multiprocessing
import pickle

import pytest

from cnntrain import errors
from cnntrain.errors import CnntrainError, ConfigError, OutOfMemory, Position, Problem
from cnntrain.run.directory import _Taken

PROBLEM = Problem("unknown key", Position("c.yaml", 3, 5, "  kernal: 3"))


def kinds(kind):
    return [kind, *(further for one in kind.__subclasses__() for further in kinds(one))]


@pytest.mark.parametrize("kind", kinds(CnntrainError), ids=lambda kind: kind.__name__)
def test_an_error_comes_out_of_another_process_as_it_is(kind, tmp_path):
    arguments = {ConfigError: ([PROBLEM, PROBLEM],), OutOfMemory: ("; kept",), _Taken: (tmp_path,)}
    error = kind(*arguments.get(kind, ("what went wrong",)))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (kind, str(error), error.exit_code)
    assert vars(again) == vars(error) and (kind is not ConfigError or again.problems == (PROBLEM, PROBLEM))


def test_through_a_pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(ConfigError) as caught:
        pool.apply_async(raise_it).get(60)
    assert str(caught.value) == str(PROBLEM)


def raise_it():
    raise errors.ConfigError([PROBLEM])
