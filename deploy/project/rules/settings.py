"""Rules about settings: variables, debugging, static files and uploads, servers that are named, what `/` answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from deploy.project import mail
from deploy.project.config import GIVEN
from deploy.project.detect import DEVELOPMENT, PRODUCTION
from deploy.project.findings import Edit, Finding
from deploy.project.rules.known import Known, project, reading
from deploy.project.source.modules import Library, Module
from deploy.project.source.tree import Location
from deploy.project.source.values import Read, Table, Unknown, Value, Variable, text, truth

#: A variable with one of these words in its name is a secret.
SECRET = re.compile(r"SECRET|KEY|TOKEN|PASSWORD|PASSWD|DSN|CREDENTIAL|PRIVATE")
#: Where the machine itself is meant.
HERE = ("", "localhost", "127.0.0.1", "::1")
FILES = "django.core.files.storage.FileSystemStorage"
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
#: Backends that the kit replaces by one with hashes, as it does where there is none (`overlay.py`, WITHOUT_MANIFEST).
LAID_OVER = (
    "django.contrib.staticfiles.storage.StaticFilesStorage",
    "whitenoise.storage.CompressedStaticFilesStorage",
)
REDIS = ("django_redis.", "django.core.cache.backends.redis.", "channels_redis.")
#: Engines of servers that no runtime has, by a word in their names.
OTHERS = {"mysql": "MySQL", "oracle": "Oracle", "mssql": "SQL Server", "sql_server": "SQL Server"}
#: Drivers of theirs that are built against a library.
CLIENTS = ("mysqlclient", "cx-oracle", "pyodbc")
#: Apps of packages that keep uploads.
UPLOADING = frozenset({"wagtail.images", "wagtail.documents", "filer", "easy_thumbnails", "cms", "photologue"})
#: What sends mail.
_SENDING = ("send_mail", "send_mass_mail", "mail_admins", "mail_managers", "EmailMessage", "EmailMultiAlternatives")
_UPLOAD = re.compile(r"\b(?:File|Image)Field\(|default_storage\.save\(")


def variables(known: Known) -> Iterator[Finding]:
    """A variable without a default stops the start of every process where it has no value."""
    redis = {"REDIS_URL"} if "redis" in known.declared.names("services") else set()
    if redis and (not known.hosts_file or "CACHE_URL" in known.values):
        redis.add("CACHE_URL")
    for each in _required(known):
        if each.name in GIVEN | redis:
            continue
        kind = "secret" if SECRET.search(each.name) else "plain"
        if each.name not in known.env:
            what = f"{each.name} has no default, and is not declared"
            yield Finding(each.at, what, [project(f"{each.name}: {kind}", "env")])
        elif not {each.name, f"{each.name}_FILE"} & {*known.values, *known.environ, *known.read_by_settings}:
            what = f"{each.name} has no default and no value"
            yield Finding(each.at, what, [known.given(each.name, kind)], advice=not known.named)


def _required(known: Known) -> list[Read]:
    """The variables that settings cannot be imported without, once each."""
    found: dict[str, Read] = {}
    for _, module in known.settings:
        for each in module.reads:
            if each.required:
                found.setdefault(each.name, each)
    return list(found.values())


def debug(known: Known) -> Iterator[Finding]:
    """DEBUG shows settings and code to whoever provokes an error."""
    module, name = known.production, known.detected.production
    if not (known.serves and module and name):
        return
    found = module.get("DEBUG")
    if not found or truth(found.value) is not True or found.sometimes:
        return
    shared = known.detected.development is not None and known.detected.development.name == name.name
    if isinstance(found.value, Variable):
        if edits := known.switch_off(found.value.name, found.at):
            yield Finding(found.at, f"DEBUG is on in production unless {found.value.name} says otherwise", edits)
    elif shared:
        read, imported = reading(module, "DEBUG", '""')
        line = f'DEBUG = {read} == "1"'
        what = f"DEBUG is on, and {name.name} serves production too"
        yield Finding(found.at, what, [Edit(found.at.path, line, found.at.line), *imported])
    else:
        here = found.at.path == module.path
        edit = Edit(module.path, "DEBUG = False", found.at.line if here else 0)
        yield Finding(found.at, f"DEBUG is on in {name.name}", [edit])


def chosen(known: Known) -> Iterator[Finding]:
    """Settings that a variable chooses are those of development where nothing gives it another value."""
    module, name = known.production, known.detected.production_name
    if not (known.serves and module) or set(re.split("[._:]", name)) & set(PRODUCTION):
        return
    tree, folder = known.detected.tree, module.path.rpartition("/")[0]
    stems = {path.rpartition("/")[2].removesuffix(".py") for path in tree.python(folder or ".")}
    wanted = next((each for each in PRODUCTION if each in stems), "")
    for each in module.reads if wanted else ():
        value = known.values.get(each.name, known.environ.get(each.name, ""))
        given = each.name in known.env and value not in ("", *DEVELOPMENT)
        if isinstance(each.default, str) and each.default in DEVELOPMENT and not given:
            declare = [] if each.name in known.env else [project(f"{each.name}: plain", "env")]
            what = f"the settings of {each.default} serve production, too, unless {each.name} says otherwise"
            yield Finding(each.at, what, [*declare, known.given(each.name, "plain", wanted)])
            return


def static_files(known: Known) -> Iterator[Finding]:
    """A browser keeps a file whose name has no hash for as long as it likes. The kit sees to the usual backends."""
    module = known.production
    if not (known.serves and module):
        return
    storages = module.get("STORAGES")
    table = storages.value.table("staticfiles") if storages and isinstance(storages.value, Table) else Table({}, {})
    old = module.get("STATICFILES_STORAGE")
    backend = text(table.get("BACKEND")) or (text(old.value) if old else "")
    is_unknown = storages is not None and not isinstance(storages.value, Table)
    known_kind = backend.startswith(("django.", "whitenoise."))
    if is_unknown or "Manifest" in backend or backend in LAID_OVER or not known_kind:
        return
    at = storages.at if storages else old.at if old else Location(module.path)
    before = "**STORAGES, " if storages else f'"default": {{"BACKEND": "{FILES}"}}, '
    line = f'STORAGES = {{{before}"staticfiles": {{"BACKEND": "{MANIFEST}"}}}}'
    what = "static files have no hash in their names, and browsers keep old ones"
    yield Finding(at, what, [Edit(module.path, line)], advice=True)


def media(known: Known) -> Iterator[Finding]:
    """Uploads are written to a disk that is read-only, or is gone with the release, unless they are declared."""
    module = known.production
    if not (known.serves and module) or known.declared.values.get("media") is not None:
        return
    root, uploads = module.get("MEDIA_ROOT"), _uploads(known, module)
    if not root or not uploads or root.value in (None, ""):
        return
    for each in filter(None, (module.get("STORAGES"), module.get("DEFAULT_FILE_STORAGE"))):
        backend = (
            text(each.value.table("default").get("BACKEND")) if isinstance(each.value, Table) else text(each.value)
        )
        if backend and backend != FILES:
            return
    what = f"MEDIA_ROOT is on disk, and {uploads} uploads; nothing keeps or serves them"
    yield Finding(root.at, what, [project("media: true")])


def _uploads(known: Known, module: Module) -> str:
    """What uploads files; empty for nothing."""
    apps = UPLOADING & set(known.detected.apps(module))
    if apps:
        return min(apps)
    tree = known.detected.tree
    for path in tree.containing(known.detected.site, "FileField(", "ImageField(", "default_storage"):
        if "/migrations/" not in f"/{path}":
            for number, line in tree.lines(path):
                if _UPLOAD.search(line) and not line.lstrip().startswith("#"):
                    return f"{path}:{number}"
    return ""


def hosts(known: Known) -> Iterator[Finding]:
    """A host that is written into the settings is there in one network only."""
    seen: set[Location] = set()
    for _, module in known.settings:
        found = module.get("DATABASES")
        for alias, value in found.value.entries.items() if found and isinstance(found.value, Table) else ():
            host, at = (value.get("HOST"), value.places.get("HOST")) if isinstance(value, Table) else (None, None)
            if not isinstance(host, str) or host in HERE or host.startswith("/") or at is None or at in seen:
                continue
            seen.add(at)
            variable = "DATABASE_HOST" if alias == "default" else f"{alias.upper()}_DATABASE_HOST"
            owner = known.module_of(at.path) or module
            read, imported = reading(owner, variable, f'"{host}"' if alias == "default" else "")
            before, key, after = re.split(r"""(["']HOST["']\s*:\s*)["'][^"']*["']""", _line(known, at), maxsplit=1)
            edits = [Edit(at.path, f"{before}{key}{read}{after}", at.line, part=f"{key}{read}"), *imported]
            what = f"the host {host!r} of the database {alias!r} is written into the settings"
            if alias == "default":
                what += "; DATABASE_URL replaces it where Portico runs the site"
                yield Finding(at, what, edits, advice=True)
            else:
                yield Finding(at, what, [*edits, project(f"{variable}: plain", "env")])


def server(known: Known) -> Iterator[Finding]:
    """A database that no runtime has: the site is given PostgreSQL in its place, and natively SQLite."""
    module = known.production
    found = module.get("DATABASES") if known.serves and module else None
    default = found.value.table("default") if found and isinstance(found.value, Table) else Table({}, {})
    engine, at = text(default.get("ENGINE")), default.places.get("ENGINE")
    name = next((title for word, title in OTHERS.items() if word in engine.lower()), "")
    if name and at:
        new = "django.db.backends.postgresql"
        before = _line(known, at)
        edits = [Edit(at.path, before.replace(engine, new), at.line, part=f'"ENGINE": "{new}"')]
        driver = known.detected.requirements.find(*CLIENTS)
        if driver and driver.at.path.startswith("requirements/") and driver.at.path.endswith(".in"):
            edits.append(Edit(driver.at.path, "", driver.at.line))  # its library is in no image
        what = f"the settings name {name}; Portico runs the site on PostgreSQL instead, where SQL of {name}'s own fails"
        yield Finding(
            at,
            f"{what} (data moves by `dumpdata` and `loaddata`)",
            edits,
            "invoke lock" if edits[1:] else "",
            advice=True,
        )


def _line(known: Known, at: Location) -> str:
    return dict(known.detected.tree.lines(at.path)).get(at.line, "").strip()


def redis(known: Known) -> Iterator[Finding]:
    """Redis, where no runtime brings one and no variable of the project's names one."""
    if "redis" in known.declared.names("services"):
        return
    seen: set[Location] = set()
    for role, module in reversed(list(known.settings)):  # what production lacks is the graver
        for at, use, address in _redis(known, module):
            named = isinstance(address, Variable) and address.name in known.env
            if at in seen or named:
                continue
            seen.add(at)
            is_production = known.serves and role.name == known.detected.production_name
            advice = not (known.named or is_production)
            yield Finding(
                at, f"{use} is in Redis, and there is none", [project("services: {redis: {}}")], advice=advice
            )


def _redis(known: Known, module: Module) -> Iterator[tuple[Location, str, Value]]:
    """Where settings use Redis, for what, and under which address. The broker is left out: each runtime has its own."""
    for name, use in (("CACHES", "the cache"), ("CHANNEL_LAYERS", "the channel layer")):
        found = module.get(name)
        if not found or found.sometimes or not isinstance(found.value, Table):
            continue
        for alias in found.value.entries:
            layer = found.value.table(alias)
            if text(layer.get("BACKEND")).startswith(REDIS):
                address = layer.get("LOCATION") or layer.table("CONFIG").get("hosts")
                address = address[0] if isinstance(address, tuple) and address else address
                yield layer.places.get("BACKEND", found.at), f"{use} {alias!r}", address
    backend = known.app.setting(module, "result_backend") if known.app else None
    if backend and urlsplit(text(backend.value)).scheme in ("redis", "rediss"):
        yield backend.at, "Celery's result backend", backend.value


def front_page(known: Known) -> Iterator[Finding]:
    """A probe of `/` fails where no address is the front page's."""
    module, probes = known.production, known.declared.text("probes").split()
    if not (known.serves and module and "/" in probes):
        return
    urls = text(module.value("ROOT_URLCONF"))
    library = known.detected.library
    if urls and _routes(library, urls, set()) is False:
        rest = " ".join(each for each in probes if each != "/") or "/readyz"
        path = library.path(urls) or module.path
        what = "no address is the front page's, so the probe of `/` gets 404 and no release comes into service"
        yield Finding(Location(path), what, [project(f'probes: "{rest}"')])


def _routes(library: Library, name: str, seen: set[str]) -> bool | None:
    """Whether a URL configuration answers the empty path; None where reading does not tell."""
    path = library.path(name)
    parsed = library.tree.parse(path) if path and name not in seen else None
    if parsed is None:
        return None
    listed = [node.value for node in parsed.body if _is_patterns(node) and isinstance(node, ast.Assign | ast.AugAssign)]
    entries = [entry for each in listed if isinstance(each, ast.List) for entry in each.elts]
    if not entries or any(not isinstance(each, ast.List) for each in listed):
        return None
    answers = [_answers(library, each, seen | {name}) for each in entries]
    return True if True in answers else None if None in answers else False


def _is_patterns(node: ast.stmt) -> bool:
    target = (
        node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AugAssign) else None
    )
    return isinstance(target, ast.Name) and target.id == "urlpatterns"


def _answers(library: Library, entry: ast.expr, seen: set[str]) -> bool | None:
    """Whether one entry answers the empty path."""
    if not isinstance(entry, ast.Call) or len(entry.args) < 2:
        return None
    function = ast.unparse(entry.func)
    route = entry.args[0].value if isinstance(entry.args[0], ast.Constant) else None
    if function not in ("path", "re_path", "url") or not isinstance(route, str):
        return None
    included = isinstance(entry.args[1], ast.Call) and ast.unparse(entry.args[1].func) == "include"
    if function != "path":
        return False if re.match(r"\^?\w+[/$]", route) else None if included else re.match(route, "") is not None
    if route:
        return False if not route.startswith("<") else None
    return _included(library, entry.args[1], seen) if included else True


def _included(library: Library, call: ast.expr, seen: set[str]) -> bool | None:
    words = call.args if isinstance(call, ast.Call) else []
    target = (
        words[0].elts[0] if words and isinstance(words[0], ast.Tuple) and words[0].elts else words[0] if words else None
    )
    if isinstance(target, ast.Constant) and isinstance(target.value, str):
        return _routes(library, target.value, seen)
    return None


def sending(known: Known) -> Iterator[Finding]:
    """Mail that production sends to nobody: printed, or to a server that is not on the machine."""
    module = known.production
    if not (known.serves and module) or "EMAIL_HOST" in known.env:
        return
    wish = [project("EMAIL_HOST: plain", "env"), known.given("EMAIL_HOST", "plain", "mail.example.org")]
    found, server = module.get("EMAIL_BACKEND"), module.get("EMAIL_HOST")
    if found and isinstance(found.value, str) and found.value in mail.NOWHERE:
        here = found.at.path == module.path
        edit = Edit(module.path, f'EMAIL_BACKEND = "{mail.SMTP}"', found.at.line if here else 0)
        what = "mail of production is sent to nobody: this back end prints or keeps it"
        yield Finding(found.at, what, [edit, *wish], advice=True)
    elif text(mail.backend(module)) == mail.SMTP and _is_here(mail.host(module)):
        what = "mail of production goes to localhost, where no server takes it"
        if server:
            owner = known.module_of(server.at.path) or module
            read, imported = reading(owner, "EMAIL_HOST", '"localhost"')
            edit = Edit(server.at.path, f"EMAIL_HOST = {read}", server.at.line)
            yield Finding(server.at, what, [edit, *imported, *wish], advice=True)
        elif at := _sends(known):
            yield Finding(at, what, wish, advice=True)


def _is_here(host: Value) -> bool:
    return not isinstance(host, Unknown) and text(host) in mail.HERE


def _sends(known: Known) -> Location | None:
    """Where the project sends mail, by what it calls."""
    tree = known.detected.tree
    for path in tree.containing(known.detected.site, *_SENDING):
        for number, line in tree.lines(path):
            if any(f"{each}(" in line for each in _SENDING) and not line.lstrip().startswith(("#", "def ")):
                return Location(path, number)
    return None


def samples(known: Known) -> Iterator[Finding]:
    """The command that fills a new database."""
    name = known.declared.text("samples")
    ours = f"management/commands/{name}.py"
    if name and known.develops and not any(path.endswith(f"/{ours}") for path in known.detected.tree.files):
        what = f"project.samples is {name!r}, and no app of the project has this management command"
        yield Finding(known.declared.at("samples"), what, [project('samples: ""')], advice=True)


def observed(known: Known) -> Iterator[Finding]:
    """The module that each process of production imports: without it, none would start."""
    name = known.declared.text("observe")
    if name and known.serves and Library(known.detected.tree, known.detected.site).path(name) is None:
        what = f"project.observe is {name!r}, and the project has no such module"
        yield Finding(known.declared.at("observe"), what, [project('observe: ""')])


RULES = (variables, chosen, debug, static_files, media, hosts, server, redis, front_page, sending, samples, observed)
