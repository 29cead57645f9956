from django.apps import AppConfig


class SignInConfig(AppConfig):
    name = "signin"

    def ready(self) -> None:
        from signin import devices  # noqa: F401 - connects its receiver
