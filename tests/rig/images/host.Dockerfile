# A plain host: Debian as a minimal installation has it, with systemd as its first process, and sshd that takes keys only.
# Neither sudo nor Python: setting it up is what the product does.
ARG SUITE
FROM debian:${SUITE}-slim
RUN rm /etc/apt/apt.conf.d/docker-clean \
    && printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
    && apt-get update -qq \
    && apt-get install -qq --no-install-recommends systemd systemd-sysv dbus openssh-server iproute2 >/dev/null \
    # No network is needed, or little, to install what a host is set up with, and an ACME directory: this is the time that
    # tests have.
    && apt-get install -qq --download-only sudo nginx curl python3 python3-venv python3-dev gcc libpq-dev libpq5 \
       postgresql postgresql-client rabbitmq-server nftables unattended-upgrades rsync restic certbot \
       pebble \
    && rm /usr/sbin/policy-rc.d
# The keys and the id of a host are made when it first starts; a container has neither devices nor seats nor terminals.
COPY host-ssh.conf /etc/systemd/system/ssh.service.d/rig.conf
# It asks logind each second whether the machine shuts down, and there is none.
COPY host-upgrades.conf /etc/systemd/system/unattended-upgrades.service.d/rig.conf
RUN rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id && : >/etc/machine-id \
    && systemctl mask systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
       systemd-logind.service getty.target \
    && printf '%s\n' 'PasswordAuthentication no' 'PermitRootLogin prohibit-password' 'MaxStartups 100' \
       >/etc/ssh/sshd_config.d/rig.conf \
    # All tests come from one address: a wrong key of one must not close the door to the next. (Since OpenSSH 9.8.)
    && if grep -aq PerSourcePenalties /usr/sbin/sshd; then echo PerSourcePenalties no >>/etc/ssh/sshd_config.d/rig.conf; fi
# What a company's image would say, once for all users: which certificate authorities are trusted.
COPY --from=ca . /usr/local/share/ca-certificates/
RUN update-ca-certificates >/dev/null \
    && printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >/etc/pip.conf \
    && mkdir /etc/uv && echo 'system-certs = true' >/etc/uv/uv.toml
COPY --chmod=755 host-entrypoint /usr/local/sbin/host-entrypoint
EXPOSE 22 80 443
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["host-entrypoint"]
# The word is for systemd 257 on a machine with control groups of version 1; others do not heed it.
CMD ["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
