from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from polls.models import Choice, Export, Question, Vote

#: How many of the polls that are to be deleted the confirmation names.
NAMED = 20


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 2
    fields = ("position", "text")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """The formset, without the admin's look for protected objects, which reads each vote of a deleted choice."""
        formset = super().get_formset(request, obj, **kwargs)
        formset.form.hand_clean_DELETE = lambda _: None  # type: ignore[attr-defined]
        return formset


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    """Polls with their choices on one page. Votes cannot be edited."""

    list_display = ("text", "published_at")
    list_filter = ("published_at",)
    search_fields = ("text",)
    inlines = (ChoiceInline,)

    def get_deleted_objects(
        self, objs: Sequence[Question] | QuerySet[Question], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """What a deletion would take with it, as counts: the admin's own list has a line for each vote."""
        polls = [each.pk for each in objs]
        counts = {
            model._meta.verbose_name_plural: model._default_manager.filter(**{f"{field}__in": polls}).count()
            for model, field in ((Question, "pk"), (Choice, "question"), (Vote, "question"))
        }
        named: list[Any] = [f"Poll: {each}" for each in objs[:NAMED]]
        if len(polls) > NAMED:
            named.append(f"and {len(polls) - NAMED} more")
        allowed = self.has_delete_permission(request)
        return named, {str(name): count for name, count in counts.items()}, set() if allowed else {"poll"}, []


@admin.register(Export)
class ExportAdmin(admin.ModelAdmin):
    """Exports, which can be viewed and deleted, but not edited."""

    list_display = ("created_at", "owner", "state", "rows_done", "rows_total", "size", "reason", "expires_at")
    list_filter = ("state",)
    search_fields = ("id", "owner")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
