"""A signal is never lost, whatever code it meets."""

import os
import signal
import sys
import weakref

import pytest

from cnntrain.app.signals import ending
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


def test_without_a_signal_errors_and_hooks_stay_as_they_are():
    before = sys.unraisablehook
    with pytest.raises(ValueError, match="plain"), ending():
        raise ValueError("plain")
    assert sys.unraisablehook is before
