"""Names that a project on hosts cannot have: its name becomes units, users' files, folders of /etc, a firewall's table.

What only a host knows, such as a unit of that name, is found there (`scripts/there.sh`) and refused in the plan.
"""

from __future__ import annotations

#: The longest name of a user, which is shorter than that of a database.
LONGEST = 32
#: Units, users, groups and folders of /etc of Debian and of what servers commonly run.
_LINES = (
    "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody messagebus",
    "sshd polkitd adm tty disk dialout fax voice cdrom floppy tape sudo wheel audio dip operator src shadow utmp",
    "video sasl plugdev staff users input sgx kvm render crontab ssl-cert netdev lxd docker admin ssh cron",
    "anacron at atd dbus udev apparmor polkit rsyslog syslog journald network networking networkd networkmanager",
    "resolvconf resolved nftables iptables ufw firewalld fail2ban chrony ntp ntpsec ntpd timesyncd unattended-",
    "upgrades getty console-setup keyboard-setup rescue emergency default reboot poweroff halt shutdown user",
    "session swap snapd cloud-init cloud-config cloud-final lvm2 mdadm multipathd open-iscsi qemu-guest-agent",
    "modprobe sysctl sysstat certbot acme letsencrypt acpid smartd smartmontools rpcbind nfs-server nfs-common",
    "samba smbd nmbd avahi-daemon cups nginx apache apache2 httpd haproxy varnish squid caddy traefik lighttpd",
    "tomcat postgres postgresql pgbouncer mysql mysqld mariadb redis redis-server valkey memcached mongod mongodb",
    "elasticsearch opensearch rabbitmq rabbitmq-server epmd kafka zookeeper etcd consul vault nomad minio exim",
    "exim4 postfix dovecot opendkim rspamd spamassassin clamav bind bind9 named unbound dnsmasq containerd podman",
    "kubelet kubernetes libvirt libvirtd jenkins gitlab gitlab-runner prometheus grafana grafana-server node-",
    "exporter loki promtail telegraf zabbix-agent munin-node monit supervisor supervisord puppet salt-minion app",
    "deploy site portico-owner template0 template1 setup apt ca-certificates cron.d default dpkg environment",
    "fstab group gshadow hostname hosts init.d issue kernel ld.so.conf locale localtime login logrotate magic",
    "mime motd mtab nsswitch opt os-release pam pam.d passwd perl profile protocols python python3 rpc security",
    "services shells skel ssl subgid subuid sudoers systemd terminfo timezone x11 xdg vim alternatives binfmt",
    "local lib sbin srv var usr etc run tmp home dev proc boot mnt media",
)
_SYSTEM = frozenset(word for line in _LINES for word in line.split())
#: What every name of the system's own services begins with.
_PREFIXES = ("systemd-", "dbus-", "user-", "getty-", "postgresql-", "rabbitmq-", "nginx-", "ssh-", "sshd-")


def refused(name: str) -> str:
    """Why a project with this name cannot be on hosts; empty if it can."""
    if len(name) > LONGEST:
        return f"has {len(name)} letters, and names on hosts have {LONGEST} at most"
    return is_system(name)


def is_system(name: str) -> str:
    """Why a site cannot have this name; empty if it can."""
    if name in _SYSTEM or name.startswith(_PREFIXES):
        return f"makes {name}, a name of the system on hosts (a unit, a user or a file has it)"
    return ""
