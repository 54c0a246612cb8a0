"""Calls that wait over an interruption, and end."""

import grpc
import pytest

from ray.util.client import unary
from ray.util.client.session.errors import SessionLost
from ray.util.client.unary import Deadline, call_over_gaps


class Broken(grpc.RpcError):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "broken"


class Session:
    """A session that is connected, until it is told to have ended."""

    ended = False

    def check_alive(self):
        if self.ended:
            raise SessionLost("over")

    def wait_connected(self, timeout):
        self.check_alive()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(unary, "time", clock)
    return clock


def failing(times, error=None):
    left = [error or Broken()] * times

    def attempt():
        if left:
            raise left.pop()
        return "done"

    return attempt


def test_goes_on_after_the_gap():
    assert call_over_gaps(Session(), 30, Deadline(None), failing(5)) == "done"


def test_no_second_attempt_without_a_grace_period():
    with pytest.raises(Broken):
        call_over_gaps(Session(), 0, Deadline(None), failing(1))


def test_no_second_attempt_where_it_cannot_help():
    refused = Broken(grpc.StatusCode.NOT_FOUND)
    with pytest.raises(Broken):
        call_over_gaps(Session(), 30, Deadline(None), failing(1, refused))


def test_ends_by_the_callers_deadline(clock):
    with pytest.raises(TimeoutError):
        call_over_gaps(Session(), 30, Deadline(2), failing(10**6))
    assert clock.now == pytest.approx(2)


def test_ends_with_the_grace_period_where_only_this_call_fails(clock):
    with pytest.raises(Broken):
        call_over_gaps(Session(), 30, Deadline(None), failing(10**6))
    assert 30 <= clock.now < 31


def test_the_grace_period_begins_with_the_first_failure(clock):
    attempts = iter(range(10))

    def attempt():
        # The first attempt takes long and then fails: that is no reason to give up.
        clock.now += 100
        if next(attempts) == 0:
            raise Broken()
        return "done"

    assert call_over_gaps(Session(), 30, Deadline(None), attempt) == "done"


def test_a_call_that_gets_on_is_not_given_up(clock):
    done = 0

    def attempt():
        nonlocal done
        clock.now += 20
        done += 1
        if done < 10:
            raise Broken()
        return "done"

    assert call_over_gaps(Session(), 30, Deadline(None), attempt, lambda: done) == "done"


def test_ends_with_the_session():
    session = Session()

    def attempt():
        session.ended = True
        raise Broken()

    with pytest.raises(SessionLost):
        call_over_gaps(session, 30, Deadline(None), attempt)
