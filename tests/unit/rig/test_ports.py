"""Parallel test processes do not use each other's ports."""

from tests.rig.ports import PORTS, free_port, share


def test_processes_side_by_side_are_given_different_ports() -> None:
    shares = [set(share(number, 3)) for number in range(3)]
    assert set.union(*shares) == set(PORTS)
    assert sum(map(len, shares)) == len(PORTS)


def test_a_process_that_replaces_one_that_crashed_has_ports_too() -> None:
    assert share(4, 3) == share(1, 3)


def test_a_port_is_not_given_again_while_what_listened_there_is_started_again() -> None:
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == 500
