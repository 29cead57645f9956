# valkey/valkey:8 as Debian has it, with the official image's entrypoint and folder.
FROM debian:trixie-slim
RUN groupadd -r -g 999 valkey && useradd -r -g valkey -u 999 valkey \
    && apt-get update -qq \
    && printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get install -qq --no-install-recommends valkey-server valkey-tools gosu >/dev/null \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /data && chown valkey:valkey /data
COPY --chmod=755 valkey-entrypoint /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["valkey-server"]
