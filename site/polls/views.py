"""The pages. Views take a request and return a response; what is done is in `services`."""

from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from polls import progress, services
from polls.forms import VoteForm
from polls.models import Question, Summary, Vote

PER_PAGE = 20
#: The session's own recounts; only they may be followed from it.
RECOUNTS = "recounts"


def _question(pk: int) -> Question:
    return get_object_or_404(Question, pk=pk, published_at__lte=timezone.now())


def _session_key(request: HttpRequest) -> str:
    if not request.session.session_key:
        request.session.create()
    return str(request.session.session_key)


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The newest polls, and how many votes there are in all."""
    polls = Question.objects.filter(published_at__lte=timezone.now())
    page = Paginator(polls, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "polls/index.html", {"page": page, "summary": Summary.objects.first()})


def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """A poll: GET shows its choices, POST votes for one."""
    question = _question(pk)
    form = VoteForm(question, request.POST if request.method == "POST" else None)
    if form.is_valid():
        if services.cast_vote(question, form.cleaned_data["choice"], _session_key(request)):
            messages.success(request, "Your vote is counted.")
        else:
            messages.info(request, "You had voted in this poll before; that vote stands.")
        return redirect("results", pk=pk)
    status = 400 if form.is_bound else 200
    return render(request, "polls/detail.html", {"question": question, "form": form}, status=status)


@require_safe
@never_cache
def results(request: HttpRequest, pk: int) -> HttpResponse:
    """The votes of a poll, and this session's own."""
    question = _question(pk)
    tally = question.tally()
    own = Vote.objects.filter(question=question, session_key=request.session.session_key or "")
    context = {
        "question": question,
        "tally": tally,
        "total": sum(votes for _, votes in tally),
        "own": own.values_list("choice_id", flat=True).first(),
    }
    return render(request, "polls/results.html", context)


@require_POST
def start_recount(request: HttpRequest) -> HttpResponse:
    """Queue a recount and go to the page that follows it."""
    task_id = services.start_recount()
    request.session[RECOUNTS] = [*request.session.get(RECOUNTS, []), task_id][-10:]
    return redirect("recount", task_id=task_id)


def _own_recount(request: HttpRequest, task_id: UUID) -> progress.Progress:
    if str(task_id) not in request.session.get(RECOUNTS, []):
        raise Http404("No such recount in this session")
    return progress.of_task(str(task_id))


@require_safe
@never_cache
def recount(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """How far a recount of this session is; the page follows it, by script or by refreshing itself."""
    return render(request, "polls/recount.html", {"progress": _own_recount(request, task_id), "task_id": task_id})


@require_safe
@never_cache
def recount_state(request: HttpRequest, task_id: UUID) -> JsonResponse:
    """The same as JSON."""
    return JsonResponse(_own_recount(request, task_id).as_dict())
