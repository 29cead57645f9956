"""The prerequisites that are checked on a machine, and their remedies."""

from __future__ import annotations

from deploy import doctor
from deploy.venvs.store import Store
from tests.support import ROOT


def test_the_doctor_knows_a_remedy_for_each_thing_on_each_system() -> None:
    for system in (doctor.DEBIAN, doctor.MACOS):
        assert all(check.remedy for check in doctor.examine(Store.of(ROOT), system))


def test_the_doctor_names_what_only_tests_need_too() -> None:
    needs = {check.name: check.purpose for check in doctor.examine(Store.of(ROOT), doctor.DEBIAN)}
    assert needs["sshd"] == "`test --suite hosts`"
    assert doctor.DEBIAN.install("sshd") == "sudo apt install openssh-server"
