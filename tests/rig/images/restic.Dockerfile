# restic/restic:0.18 as Debian has it, with the official image's entrypoint, a shell, and ssh for sftp repositories.
FROM debian:trixie-slim
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends restic openssh-client ca-certificates >/dev/null \
    && rm -rf /var/lib/apt/lists/*
ENTRYPOINT ["/usr/bin/restic"]
