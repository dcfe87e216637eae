"""Observers behind the reactor: their failures stay theirs."""

from __future__ import annotations

import pytest

from rocmbuild.events import Note, RunStarted, TaskStarted
from rocmbuild.ui.reactor import Reactor
from rocmbuild.ui.state import Status


class Failing:
    """An observer that cannot."""

    def __init__(self):
        self.calls = 0

    def __call__(self, event):
        self.calls += 1
        raise OSError(28, "No space left on device")

    def close(self):
        raise ValueError("closed")


def note(number=0):
    return Note(float(number), "rocr", str(number))


def test_every_observer_gets_every_event_in_order():
    first, second = [], []
    reactor = Reactor(first.append)
    reactor.add(second.append)
    for number in range(3):
        reactor(note(number))
    assert first == second == [note(0), note(1), note(2)]


def test_a_failing_observer_is_reported_once_and_called_again():
    failing, seen, reports = Failing(), [], []
    reactor = Reactor(failing, seen.append, report=reports.append)
    reactor(note(0))
    reactor(note(1))
    reactor.close()
    assert seen == [note(0), note(1)]
    assert failing.calls == 2
    assert reports == ["rocmbuild: Failing failed, the run goes on: OSError: [Errno 28] No space left on device"]


def test_the_report_goes_to_standard_error(capsys):
    Reactor(Failing())(note())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Failing failed" in captured.err


def test_a_report_that_cannot_be_made_is_let_go():
    def report(text):
        raise BrokenPipeError

    Reactor(Failing(), report=report)(note())


def test_an_interrupt_is_not_an_observers_failure():
    def interrupted(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reactor(interrupted)(note())


def test_close_reaches_every_observer_once():
    class Closing:
        def __init__(self):
            self.closed = 0

        def __call__(self, event):
            pass

        def close(self):
            self.closed += 1

    closing = Closing()
    with Reactor(Failing(), lambda event: None, closing, report=lambda text: None) as reactor:
        reactor(note())
    reactor.close()
    assert closing.closed == 1


def test_the_reactor_knows_the_state():
    reactor = Reactor()
    reactor(RunStarted(0.0, "run", {"rocr": 1.0}))
    reactor(TaskStarted(0.0, "rocr"))
    assert reactor.state.tasks["rocr"].status is Status.RUNNING
