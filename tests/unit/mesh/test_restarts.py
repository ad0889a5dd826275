import pytest

from mesh.restarts import Pace, Restarts


@pytest.mark.requirement("RUN-1")
def test_the_delay_doubles_from_crash_to_crash_up_to_its_cap() -> None:
    restarts = Restarts(pace=Pace(first=1, cap=5))

    assert [restarts.crashed(uptime=0).delay for _ in range(5)] == [1, 2, 4, 5, 5]


@pytest.mark.requirement("RUN-1")
def test_a_crash_after_a_steady_time_counts_as_the_first() -> None:
    restarts = Restarts(pace=Pace(first=1, steady=60))
    restarts.crashed(uptime=0)
    restarts.crashed(uptime=0)

    assert restarts.crashed(uptime=60).crashes == 1


@pytest.mark.requirement("RUN-1")
def test_a_loop_is_called_one_at_its_threshold_and_not_before() -> None:
    restarts = Restarts(pace=Pace(loop=3))

    assert [restarts.crashed(uptime=1).looping for _ in range(4)] == [False, False, True, True]


def test_a_thousand_crashes_do_not_overflow_the_delay() -> None:
    restarts = Restarts()

    assert max(restarts.crashed(uptime=0).delay for _ in range(1000)) == Pace().cap
