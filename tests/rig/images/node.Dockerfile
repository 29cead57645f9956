# A node of a swarm: an engine of its own in a container, and sshd, by which it is reached as a server is.
FROM debian:trixie-slim
RUN apt-get update -qq \
    && printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get install -qq --no-install-recommends docker.io docker-cli iptables pigz openssh-server curl procps \
       ca-certificates >/dev/null \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*
COPY --chmod=755 node-entrypoint /usr/local/bin/node-entrypoint
VOLUME /var/lib/docker
EXPOSE 22 80
ENTRYPOINT ["node-entrypoint"]
