"""A signal is never lost, whatever code it meets."""

import os
import signal
import sys
import threading
import weakref

import pytest

from cnntrain.app.signals import ending, listening
from cnntrain.errors import ClaimNotMet, Signalled


class Thing:
    """Something that can be referred to weakly."""


def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


def test_one_that_python_drops_is_raised_on_the_way_out(capsys):
    went_on = False
    with pytest.raises(Signalled, match="SIGINT"), ending():
        thing = Thing()
        watcher = weakref.ref(thing, interrupt)
        del thing
        went_on = True
    assert went_on and watcher() is None
    assert capsys.readouterr().err == ""


def test_one_that_becomes_another_error_stays_a_signal():
    with pytest.raises(Signalled, match="SIGTERM"), ending():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Signalled as error:
            raise ValueError("invalid matrix") from error


def test_what_was_said_of_one_already_is_not_said_again():
    with pytest.raises(ClaimNotMet), ending():
        try:
            interrupt()
        except Signalled as error:
            raise ClaimNotMet("told") from error


def test_the_second_signal_does_what_it_did_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with listening() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == "SIGTERM"
        assert {number: signal.getsignal(number) for number in before} == before
    assert {number: signal.getsignal(number) for number in before} == before


def test_who_is_launched_only_remembers():
    before = signal.getsignal(signal.SIGINT)
    with listening(may_hear_twice=True) as request:
        interrupt()
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal == "SIGHUP"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_limit_of_processor_time_that_is_told_of_again_leaves_time_to_save():
    before, terminated = signal.getsignal(signal.SIGXCPU), signal.getsignal(signal.SIGTERM)
    with listening() as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGXCPU)
        assert request.signal == "SIGXCPU"
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == "SIGTERM"
        os.kill(os.getpid(), signal.SIGXCPU)
        assert signal.getsignal(signal.SIGTERM) is terminated
    assert signal.getsignal(signal.SIGXCPU) is before


def test_what_is_ignored_from_outside_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_the_handlers_of_the_first_stay_in_force():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with listening() as request, ending():
            seen.append((request.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_without_a_signal_errors_and_hooks_stay_as_they_are():
    before = sys.unraisablehook
    with pytest.raises(ValueError, match="plain"), ending():
        raise ValueError("plain")
    assert sys.unraisablehook is before


class Failing:
    """Something that can't be taken away in peace."""

    def __del__(self):
        raise ValueError("plain")


def test_what_else_python_drops_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with ending():
        Failing()
    assert told == [ValueError]
