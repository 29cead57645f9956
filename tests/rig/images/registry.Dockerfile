# registry:3 as Debian has it, with the official image's contract: port 5000, /var/lib/registry, REGISTRY_* variables.
FROM debian:trixie-slim
RUN apt-get update -qq \
    && printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get install -qq --no-install-recommends docker-registry ca-certificates >/dev/null \
    && rm -rf /var/lib/apt/lists/* /etc/docker/registry \
    && ln -s docker-registry /usr/bin/registry
COPY registry.yml /etc/distribution/config.yml
VOLUME /var/lib/registry
EXPOSE 5000
ENTRYPOINT ["registry", "serve"]
CMD ["/etc/distribution/config.yml"]
