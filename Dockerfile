# The site's image. Targets: `app` for production, and `dev`, which contains no code because the code is mounted.
#
# `invoke build` passes the revision. A private CA, for a proxy in front of the package index, is the secret `build_ca`,
# and indexes that pip's or uv's settings name are the secret `package_sources`.
# `deploy/docker/context.py` says which files are there to copy: those that Git knows, in the same folders for every project.

ARG PYTHON_IMAGE=python:3.13-slim-trixie
# Where the front end is built, for a project that has one: `assets` in invoke.yaml.
ARG ASSETS_IMAGE=${PYTHON_IMAGE}

# --- Runtime: Python, the libraries that packages are linked with, and an unprivileged user.

FROM ${PYTHON_IMAGE} AS runtime
ARG DEBIAN_FRONTEND=noninteractive
# PACKAGES: `packages` in invoke.yaml.
ARG PACKAGES=""
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends libpq5 ${PACKAGES} >/dev/null \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin app \
    && install -d -o app -g app -m 2750 /srv/protected /srv/media \
    && install -d -o app -g app -m 2755 /srv/static
# DJANGO_SETTINGS_MODULE: the project's settings with what the place decides laid over them, see deploy/kit.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 STATIC_ROOT=/usr/share/static \
    PROTECTED_ROOT=/srv/protected PROTECTED_URL="" PYTHONPATH=/opt/kit DJANGO_SETTINGS_MODULE=portico_site.settings
WORKDIR /app
# --- deploy/local/Dockerfile follows here.

# --- Build tools: a compiler, headers, and uv from our own lock. The images contain none of them.

FROM runtime AS builder
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends gcc libc6-dev libpq-dev >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/tools.txt /tmp/tools.txt
RUN --mount=type=secret,id=build_ca --mount=type=secret,id=package_sources \
    --mount=type=cache,target=/root/.cache/pip \
    if [ -s /run/secrets/package_sources ]; then . /run/secrets/package_sources; fi; \
    if [ -s /run/secrets/build_ca ]; then export PIP_CERT=/run/secrets/build_ca; fi; \
    awk '/^[^ #]/ { wanted = /^uv==/ } wanted' /tmp/tools.txt >/tmp/uv.txt \
    && pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes -r /tmp/uv.txt
# What builds packages that come as source only: locked, wheels alone. Nothing newer or other is fetched and run for that.
# An index need not have it for packages that are wheels; others then fail, and name what they miss.
COPY requirements/build.txt /tmp/build.txt
RUN --mount=type=secret,id=build_ca --mount=type=secret,id=package_sources \
    --mount=type=cache,target=/root/.cache/uv \
    if [ -s /run/secrets/package_sources ]; then . /run/secrets/package_sources; fi; \
    if [ -s /run/secrets/build_ca ]; then export SSL_CERT_FILE=/run/secrets/build_ca; fi; \
    UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never uv pip install --quiet --system --target /opt/build --no-deps \
    --only-binary :all: --require-hashes -r /tmp/build.txt || echo "packages from source cannot be built" >&2
# A cache mount is another file system, so files are copied, not linked. Code is read-only later, so it is compiled now.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never

# --- The locked packages: one layer for each lock, which changes only when the lock changes.

FROM builder AS prod-packages
COPY requirements/prod.txt requirements/wheels*/*.whl /tmp/packages/
RUN --mount=type=secret,id=build_ca --mount=type=secret,id=package_sources \
    --mount=type=cache,target=/root/.cache/uv \
    if [ -s /run/secrets/package_sources ]; then . /run/secrets/package_sources; fi; \
    if [ -s /run/secrets/build_ca ]; then export SSL_CERT_FILE=/run/secrets/build_ca; fi; \
    export UV_FIND_LINKS="/tmp/packages${UV_FIND_LINKS:+,$UV_FIND_LINKS}"; \
    uv venv --quiet /opt/venv \
    && PYTHONPATH=/opt/build uv pip install --quiet --python /opt/venv --no-build-isolation --no-deps --require-hashes -r /tmp/packages/prod.txt

FROM builder AS dev-packages
COPY requirements/dev.txt requirements/wheels*/*.whl /tmp/packages/
RUN --mount=type=secret,id=build_ca --mount=type=secret,id=package_sources \
    --mount=type=cache,target=/root/.cache/uv \
    if [ -s /run/secrets/package_sources ]; then . /run/secrets/package_sources; fi; \
    if [ -s /run/secrets/build_ca ]; then export SSL_CERT_FILE=/run/secrets/build_ca; fi; \
    export UV_FIND_LINKS="/tmp/packages${UV_FIND_LINKS:+,$UV_FIND_LINKS}"; \
    uv venv --quiet /opt/venv \
    && PYTHONPATH=/opt/build uv pip install --quiet --python /opt/venv --no-build-isolation --no-deps --require-hashes -r /tmp/packages/dev.txt

# --- The front end, from the files that Git knows. The output alone goes on, to its place in the site's folder.

FROM ${ASSETS_IMAGE} AS assets
WORKDIR /src
COPY assets ./
ARG ASSETS_RUN="" ASSETS_OUTPUT="" ASSETS_PLACE=""
RUN --mount=type=secret,id=build_ca \
    mkdir /out; if [ -z "$ASSETS_RUN" ]; then exit 0; fi; \
    if [ -s /run/secrets/build_ca ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/build_ca; fi; \
    sh -c "$ASSETS_RUN" \
    && mkdir -p "/out/$ASSETS_PLACE" \
    && cp -R "$ASSETS_OUTPUT/." "/out/$ASSETS_PLACE/"

# --- The compiled code, and the static files: collected under hashed names, and compressed once instead of per request.

FROM prod-packages AS site
# The project's own names: they belong to a release, so its image has them.
ARG SETTINGS WSGI="" CELERY="" IMPORTS=""
ENV PORTICO_SETTINGS=${SETTINGS} PORTICO_WSGI=${WSGI} PORTICO_CELERY=${CELERY} PORTICO_PATH=${IMPORTS}
WORKDIR /app
COPY kit /opt/kit
COPY site ./
COPY --from=assets /out ./
# The settings require values; these exist only for this command, and no image contains them. OWN: NAME=VALUE of each
# variable that the project declares.
ARG OWN=""
RUN chmod -R u=rwX,go=rX /app /opt/kit \
    && python -m compileall -q /app /opt/kit \
    && SECRET_KEY=$(head -c 48 /dev/urandom | base64) ALLOWED_HOSTS=build DATABASE_URL=postgres://build \
       CELERY_BROKER_URL=memory:// env ${OWN} python -m portico_site.release collect

# --- Development: packages only.

FROM runtime AS dev
COPY --from=dev-packages /opt/venv /opt/venv
ARG SETTINGS ASGI="" CELERY="" IMPORTS=""
ENV PYTHONPATH=/opt/machinery/deploy/kit PORTICO_MODE=development PORTICO_SETTINGS=${SETTINGS} PORTICO_CELERY=${CELERY} \
    PORTICO_ASGI=${ASGI} PORTICO_PATH=${IMPORTS} STATIC_ROOT=/tmp/static
# Development runs as the user whose code is mounted, whoever that is.
RUN chmod 2777 /srv/protected
USER app
CMD ["python", "manage.py", "runserver", "--noreload", "0.0.0.0:8000"]

# --- Production.

FROM runtime AS app
COPY --from=prod-packages /opt/venv /opt/venv
COPY --from=site /usr/share/static /usr/share/static
COPY --from=site /opt/kit /opt/kit
COPY --from=site /app /app
ARG SETTINGS WSGI="" ASGI="" CELERY="" IMPORTS=""
ENV PORTICO_SETTINGS=${SETTINGS} PORTICO_WSGI=${WSGI} PORTICO_ASGI=${ASGI} PORTICO_CELERY=${CELERY} PORTICO_PATH=${IMPORTS}
USER app
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-m", "portico_site.healthcheck", "http://127.0.0.1:8000/healthz"]
CMD ["gunicorn", "-c", "python:portico_site.gunicorn_conf"]
ARG REVISION=unknown
ARG CREATED=unknown
ENV PORTICO_RELEASE=${REVISION}
LABEL org.opencontainers.image.revision=${REVISION} org.opencontainers.image.created=${CREATED}
