"""The pages. Views take a request and return a response; the operations are in `services`."""

from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from polls import services, visitors
from polls.forms import PollForm, VoteForm
from polls.models import Export, Question, Vote

PER_PAGE = 20

require_form = require_http_methods(["GET", "HEAD", "POST"])


# --- polls ---


def _question(pk: int) -> Question:
    return get_object_or_404(Question, pk=pk, published_at__lte=timezone.now())


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The newest polls, or those that contain the search words."""
    words = request.GET.get("q", "").strip().replace("\0", "")[:100]
    polls = Question.objects.filter(published_at__lte=timezone.now())
    if words:
        polls = polls.filter(text__icontains=words)
    page = Paginator(polls, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "polls/index.html", {"page": page, "words": words})


@require_form
@login_required
@permission_required("polls.add_question", raise_exception=True)
def create(request: HttpRequest) -> HttpResponse:
    """Create a poll, for users who may add one."""
    form = PollForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        question = services.create_poll(form.cleaned_data["text"], form.cleaned_data["choices"])
        messages.success(request, "Your poll is open.")
        return redirect("detail", pk=question.pk)
    return render(request, "polls/create.html", {"form": form}, status=_status(form))


def _status(form: VoteForm | PollForm) -> int:
    return HTTPStatus.BAD_REQUEST if form.is_bound else HTTPStatus.OK


@require_form
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """A poll: GET shows its choices, POST votes for one."""
    question = _question(pk)
    form = VoteForm(question, request.POST if request.method == "POST" else None)
    if not form.is_valid():
        page = render(request, "polls/detail.html", {"question": question, "form": form}, status=_status(form))
        return visitors.mark(request, page)
    visitor = visitors.known(request) or uuid4()
    if services.cast_vote(question, form.cleaned_data["choice"], visitor):
        messages.success(request, "Your vote is counted.")
    else:
        messages.info(request, "You have already voted in this poll; your first vote counts.")
    response = redirect("results", pk=pk)
    visitors.remember(response, visitor)
    return response


@require_safe
@never_cache
def results(request: HttpRequest, pk: int) -> HttpResponse:
    """The votes of a poll, with the visitor's own vote."""
    question = _question(pk)
    own = None
    if visitor := visitors.known(request):
        own = Vote.objects.filter(question=question, visitor=visitor).values_list("choice_id", flat=True).first()
    return render(request, "polls/results.html", {"question": question, "own": own, **_bars(question)})


def _bars(question: Question) -> dict[str, Any]:
    tally = question.tally()
    total = sum(votes for _, votes in tally)
    bars = [
        {"pk": choice.pk, "text": choice.text, "votes": votes, "percent": round(100 * votes / total) if total else 0}
        for choice, votes in tally
    ]
    return {"total": total, "bars": bars}


@require_safe
@never_cache
def results_state(request: HttpRequest, pk: int) -> JsonResponse:
    """The votes of a poll as JSON, which the results page polls."""
    return JsonResponse(_bars(_question(pk)))


# --- exports ---


@require_form
@never_cache
def exports(request: HttpRequest) -> HttpResponse:
    """The owner's exports; POST starts another."""
    owner = visitors.owner(request)
    if request.method == "POST":
        return _ask(request, owner)
    own = Export.objects.filter(owner=owner)[:PER_PAGE] if owner else []
    return visitors.mark(request, render(request, "polls/exports.html", {"exports": own}))


def _ask(request: HttpRequest, owner: str) -> HttpResponse:
    visitor = visitors.known(request) or uuid4()
    try:
        export = services.ask_for_export(owner or f"visitor:{visitor}")
    except services.TooManyExportsError:
        return render(request, "429.html", {"limit": settings.EXPORTS_OPEN_LIMIT}, status=HTTPStatus.TOO_MANY_REQUESTS)
    except services.NoRoomForExportsError as error:
        return render(request, "507.html", {"text": str(error)}, status=HTTPStatus.INSUFFICIENT_STORAGE)
    response = redirect("export", pk=export.pk)
    visitors.remember(response, visitor)
    return response


def _own_export(request: HttpRequest, pk: UUID) -> Export:
    """An export of the requesting owner; for everybody else it does not exist."""
    owner = visitors.owner(request)
    if not owner:
        raise Http404("No such export")
    return get_object_or_404(Export, pk=pk, owner=owner)


@require_safe
@never_cache
def export(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The progress of an export; the page updates itself by script or by refreshing."""
    return render(request, "polls/export.html", {"export": _own_export(request, pk)})


@require_safe
@never_cache
def check(request: HttpRequest, pk: str) -> JsonResponse:
    """The state of an export as JSON; 404 for the exports of others, and for what is not an id."""
    try:
        found = _own_export(request, UUID(pk))
    except (ValueError, Http404):
        return JsonResponse({"state": "unknown", "text": "There is no such export."}, status=HTTPStatus.NOT_FOUND)
    state = found.current_state
    total = max(found.rows_total, 1)
    return JsonResponse(
        {
            "state": state,
            "done": total if state == Export.State.DONE else found.rows_done,
            "total": total,
            "text": found.sentence,
            "download": reverse("download", args=[found.pk]) if state == Export.State.DONE else None,
        }
    )


@require_safe
@never_cache
def download(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The file, for its owner: sent by the web server in front, if there is one, else streamed from here."""
    found = _own_export(request, pk)
    if found.current_state != Export.State.DONE:
        raise Http404("This export has no file")
    return send(found.path, found.name, "text/csv; charset=utf-8")


def send(path: Path, name: str, content_type: str) -> HttpResponseBase:
    """Send a file that has no public address, under the name that its owner sees."""
    if not settings.PROTECTED_URL:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise Http404("There is no such file") from None
        whole = FileResponse(file, as_attachment=True, filename=name, content_type=content_type)
        whole["Accept-Ranges"] = "none"  # the web server in front sends parts, for downloads that broke
        return whole
    # Do not check that it exists: it may be on another machine, where the web server finds it.
    response = HttpResponse(content_type=content_type)
    response["X-Accel-Redirect"] = f"{settings.PROTECTED_URL}{path.name}"
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=name)
    return response
