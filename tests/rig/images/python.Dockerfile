# python:X-slim-trixie as Debian has it: `python` and `pip` on PATH, headers, and free to install packages.
FROM debian:trixie-slim
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends python3-dev python3-venv python3-pip netbase tzdata >/dev/null \
    && ln -s python3 /usr/bin/python \
    && rm -rf /usr/lib/python3*/EXTERNALLY-MANAGED /var/lib/apt/lists/*
CMD ["python3"]
