"""Signing in: an account has few wrong passwords an hour, and its owner gets in all the same."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from signin.models import Attempt

LOGIN = "/admin/login/"
GOOD = {"username": "owner", "password": "correct-horse-battery"}


@pytest.fixture
def owner(db: None) -> Client:
    """The owner of an account, on a device where they have signed in and out."""
    get_user_model().objects.create_superuser(**GOOD)
    client = Client()
    assert client.post(LOGIN, GOOD).status_code == 302
    client.post("/admin/logout/")
    return client


def guess(number: int, **more: str) -> int:
    """A guess from an address of its own; the status of the answer: 302 is in."""
    stranger = Client(REMOTE_ADDR=f"198.51.{number // 250}.{number % 250 + 1}")
    return stranger.post(LOGIN, {**GOOD, "password": f"guess-{number}", **more}).status_code


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were compared, which costs half a second each in production."""
    from django.contrib.auth.backends import ModelBackend

    seen: list[str] = []
    real = ModelBackend.authenticate

    def authenticate(self: ModelBackend, request: object, username: object, password: str, **more: object) -> object:
        seen.append(password)
        return real(self, request, username, password, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelBackend, "authenticate", authenticate)
    return seen


def test_a_thousand_addresses_try_few_passwords_and_the_owner_still_gets_in(owner: Client, compared: list[str]) -> None:
    compared.clear()
    assert {guess(number) for number in range(150)} == {200}
    assert len(compared) <= 100, "of one account, an hour"
    assert guess(151, password=GOOD["password"]) == 200, "even the right one, from a device that nobody knows"
    assert owner.post(LOGIN, GOOD).status_code == 302
    assert Attempt.objects.count() <= 100, "what is refused leaves nothing behind"


def test_case_and_spaces_make_no_other_account(owner: Client, compared: list[str]) -> None:
    compared.clear()
    for number, name in enumerate(("owner", "OWNER", " owner", "Owner ") * 10):
        guess(number, username=name)
    assert len(compared) <= 20


def test_a_device_has_few_wrong_passwords_too_and_is_for_its_account_alone(owner: Client, compared: list[str]) -> None:
    compared.clear()
    for number in range(30):
        owner.post(LOGIN, {**GOOD, "password": f"guess-{number}"})
    assert len(compared) == 20
    assert owner.post(LOGIN, GOOD).status_code == 200
    owner.post(LOGIN, {"username": "another", "password": "x"})
    assert compared[-1] == "x", "the account of another has its own attempts"


def test_who_signs_in_uses_up_no_attempt(owner: Client) -> None:
    before = Attempt.objects.count()
    for _ in range(25):
        assert owner.post(LOGIN, GOOD).status_code == 302
        owner.post("/admin/logout/")
    assert Attempt.objects.count() == before
