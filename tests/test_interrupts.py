import os
import signal
import threading

import pytest

from almining.interrupts import Interrupted, asked, check, held


@pytest.fixture(autouse=True)
def python_handles_it():
    """A test run in the background starts with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "not put back"
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_the_second_stops_at_once() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt) as caught, held():
        assert not asked()
        check()
        press()
        reached.append(asked())
        press()
        reached.append("more")
    assert reached == [True] and type(caught.value) is KeyboardInterrupt and not asked()


def test_check_raises_what_is_a_ctrl_c() -> None:
    with pytest.raises(Interrupted, match="stopped by Ctrl-C") as caught, held():
        press()
        check()
        pytest.fail("goes on")
    assert isinstance(caught.value, KeyboardInterrupt) and not asked()


def test_one_that_nobody_asked_about_is_not_lost() -> None:
    with pytest.raises(Interrupted), held():
        press()
    with held():  # and it is over then
        assert not asked()


def test_an_error_of_the_block_comes_first() -> None:
    with pytest.raises(ZeroDivisionError), held():
        press()
        1 / 0  # noqa: B018
    assert not asked()


def test_the_outermost_block_holds() -> None:
    reached = []
    with pytest.raises(Interrupted), held():
        with held():
            press()
        reached.append(asked())
        check()
        reached.append("more")
    assert reached == [True]


def test_outside_a_block_and_where_it_is_ignored_nothing_changes() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        press()
    assert type(caught.value) is KeyboardInterrupt and not asked()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held():
        press()
        assert not asked()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_in_a_thread_it_does_nothing() -> None:
    seen = []

    def work() -> None:
        with held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
