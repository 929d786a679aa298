from __future__ import annotations

import signal
import threading

import pytest

from labels4free.training_loop.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sets_a_flag_and_restores_the_handler(number, caplog):
    old = signal.getsignal(number)
    with Interrupts() as interrupts, caplog.at_level("INFO", "labels4free"):
        assert interrupts.requested is None
        signal.raise_signal(number)
        assert caplog.messages == [f"{number.name}: what is being done now is finished and kept first."]
        assert interrupts.requested == number.name
    assert signal.getsignal(number) is old
    assert interrupts.requested == number.name  # still known behind the context


def test_second_sigint_interrupts_at_once():
    old = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.requested == "SIGINT"
    assert signal.getsignal(signal.SIGINT) is old


def test_sigterm_does_not_count_as_a_first_sigint():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.requested == "SIGTERM"  # the first that came
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_can_be_used_again():
    interrupts = Interrupts()
    with interrupts:
        signal.raise_signal(signal.SIGINT)
    with interrupts:
        assert interrupts.requested is None
        signal.raise_signal(signal.SIGINT)
        assert interrupts.requested == "SIGINT"


def test_restores_handlers_when_the_loop_fails():
    old = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Interrupts():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGTERM) is old


def test_changes_nothing_in_another_thread():
    seen = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT) is before, interrupts.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, None)]
