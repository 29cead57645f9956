from django.contrib import admin
from django.http import HttpRequest

from polls.models import Choice, Export, Question


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 2
    fields = ("position", "text")


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    """Polls with their choices on one page. Votes cannot be edited."""

    list_display = ("text", "published_at")
    list_filter = ("published_at",)
    search_fields = ("text",)
    inlines = (ChoiceInline,)


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
