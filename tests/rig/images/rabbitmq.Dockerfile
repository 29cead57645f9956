# rabbitmq:4 as Debian has it, with the official image's entrypoint and folders.
FROM debian:trixie-slim
RUN groupadd -r -g 999 rabbitmq && useradd -r -g rabbitmq -u 999 -d /var/lib/rabbitmq -m rabbitmq \
    && apt-get update -qq \
    && printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get install -qq --no-install-recommends rabbitmq-server gosu >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/lib/rabbitmq/* /var/lib/rabbitmq/.erlang.cookie /etc/rabbitmq/rabbitmq-env.conf \
    && mkdir -p /etc/rabbitmq/conf.d && chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /etc/rabbitmq /var/log/rabbitmq
ENV HOME=/var/lib/rabbitmq LANG=C.UTF-8 RABBITMQ_LOGS=- PATH=/usr/lib/rabbitmq/bin:$PATH
COPY --chmod=755 rabbitmq-entrypoint /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/rabbitmq
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 4369 5672 25672
CMD ["rabbitmq-server"]
