from django.contrib import admin

from polls.models import Choice, Question, Summary


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 2
    fields = ("position", "text")


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    """Polls with their choices on one page. Votes are not edited by hand."""

    list_display = ("text", "published_at")
    list_filter = ("published_at",)
    search_fields = ("text",)
    inlines = (ChoiceInline,)


@admin.register(Summary)
class SummaryAdmin(admin.ModelAdmin):
    list_display = ("votes", "questions", "counted_at")

    def has_add_permission(self, request: object) -> bool:
        return False
