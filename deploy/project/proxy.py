"""Renders the files of /etc/nginx/site that `nginx/site.conf` includes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deploy.project.local import NOTHING, nginx_line

#: The upstream by the name of the service: all replicas that the engine's DNS server knows at this moment.
ALL = ("app",)
#: The port on which nginx offers the files of its machine to the nginx of other machines.
PEERS_PORT = 8082


@dataclass(frozen=True)
class Front:
    """How clients reach the site."""

    hosts: Sequence[str]
    tls: bool
    #: The port of HTTPS as clients see it, for the redirect.
    https_port: int
    #: Networks of proxies that are trusted to state the client's address and scheme.
    trusted: Sequence[str]
    static_root: str = "/srv/static"
    protected_root: str = "/srv/protected"
    #: The folder with the page of a maintenance, and who sees the site meanwhile (`maintenance`).
    maintenance_root: str = "/etc/nginx/site/maintenance"
    #: The host name of the nginx on other machines, which have the files that this machine lacks; empty without any.
    peers: str = ""
    #: The path below which uploads are served; empty without any.
    media_url: str = ""
    media_root: str = "/srv/media"
    #: Whether all machines share the folder of uploads; otherwise another machine may have the file.
    media_shared: bool = False
    #: The largest request body, in megabytes.
    upload_megabytes: int = 10
    #: Whether the site answers /metrics to those inside.
    metrics: bool = False
    #: What the project adds to the server.
    own: str = NOTHING
    #: Whether the machine gets its certificate of an ACME directory: one file has certificate and key.
    acme: bool = False
    #: The folder of what that directory asks for; or the address of the machine that has it.
    challenges: str = ""
    challenged: str = ""

    @property
    def shown(self) -> str:
        """The directives for the certificate."""
        return ONE_FILE if self.acme else PAIR


#: The access log of a container; the engine stores it.
CONTAINER_LOG = "/dev/stdout"
#: The directives for the certificate of a server.
PAIR = "ssl_certificate /etc/nginx/site/tls.crt;\nssl_certificate_key /etc/nginx/site/tls.key;\n"
#: The same for a pair in one file, which one rename replaces.
ONE_FILE = "ssl_certificate /etc/nginx/site/tls.pem;\nssl_certificate_key /etc/nginx/site/tls.pem;\n"


def runtime_files(front: Front, upstream: Iterable[str], resolved: Iterable[str] = ()) -> dict[str, str]:
    """The rendered files for containers, by name.

    ``upstream`` names the replicas that serve; ``resolved`` names those whose addresses are only resolved for now.
    """
    names = " ".join(front.hosts)
    plain = f"listen 80;\nserver_name {names};\n"
    return {
        "http.conf": http(front, upstream, resolved) + peers(front),
        "server.conf": (f"listen 443 ssl;\n{PAIR}http2 on;\nserver_name {names};\n" if front.tls else plain)
        + _bodies(front)
        + (MEASURED if front.metrics else "")
        + (ELSEWHERE if front.peers else "")
        + media(front, elsewhere=bool(front.peers) and not front.media_shared),
        "missing.conf": MISSING if front.peers else ALL_HERE,
        "local.conf": front.own,
        "unknown.conf": "listen 80 default_server;\nserver_name _;\n"
        + ("listen 443 ssl default_server;\nssl_reject_handshake on;\n" if front.tls else "")
        + (MEASURED if front.metrics else ""),
    }


def http(front: Front, upstream: Iterable[str], resolved: Iterable[str] = ()) -> str:
    """The upstream, the folders of files, the trusted proxies, and with a certificate the redirect to HTTPS.

    `resolve` follows a replica that returns with another address. `max_fails=0`: a failure never marks a replica as
    down. The mark would outlast the failure by ten seconds, and would apply to the next replica with that address.
    `down`: the replica gets no requests, but its name is resolved. nginx resolves a name that is new in a reload only
    after the reload, and until then has no server for requests. The addresses of names that it knew before are kept
    (ngx_http_upstream_zone_preresolve in nginx's source).
    """
    return _http(front, _servers(upstream, resolved), CONTAINER_LOG, "listen 80;")


def _servers(upstream: Iterable[str], resolved: Iterable[str]) -> str:
    used = "".join(f"    server {name}:8000 resolve max_fails=0;\n" for name in upstream)
    return used + "".join(f"    server {name}:8000 resolve max_fails=0 down;\n" for name in resolved)


def with_upstream(text: str, upstream: Iterable[str], resolved: Iterable[str] = ()) -> str:
    """An `http.conf` with its upstream replaced and all else unchanged."""
    lines = r"(?:^    server [\w.-]+:8000 resolve max_fails=0(?: down)?;\n)+"
    return re.sub(lines, lambda _: _servers(upstream, resolved), text, count=1, flags=re.MULTILINE)


def _http(front: Front, servers: str, log: str, listen: str) -> str:
    trusted = "".join(f"    {network} 1;\n" for network in front.trusted)
    real = "".join(f"set_real_ip_from {network};\n" for network in front.trusted)
    if real:
        real += "real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n"
    port = "" if front.https_port == 443 else f":{front.https_port}"
    there = f"return 308 https://$host{port}$request_uri;"
    redirect = (
        f"server {{\n    {listen}\n    server_name {' '.join(front.hosts)};\n"
        + (f"    location / {{ {there} }}\n{_challenge(front)}" if front.acme else f"    {there}\n")
        + "}\n"
    )
    return (
        f"access_log {log} json buffer=16k flush=1s;\n"
        f"upstream app {{\n    zone app 64k;\n{servers}}}\n"
        f"map $host $static_root {{ default {front.static_root}; }}\n"
        f"map $host $protected_root {{ default {front.protected_root}; }}\n"
        f"map $host $maintenance_root {{ default {front.maintenance_root}; }}\n"
        f"{_media_root(front)}"
        f"geo $realip_remote_addr $from_trusted_proxy {{\n    default 0;\n{trusted}}}\n"
        f"geo $realip_remote_addr $may_probe {{\n    default 0;\n    127.0.0.0/8 1;\n    ::1 1;\n{trusted}}}\n"
        f"geo $realip_remote_addr $is_inside {{\n    default 0;\n{INSIDE}{trusted}}}\n{real}"
        f"{redirect if front.tls else ''}"
    )


def _challenge(front: Front) -> str:
    """Where an ACME directory asks (RFC 8555, section 8.3): one machine orders, the others pass the question on."""
    lines = (
        (f"root {front.challenges};", "default_type text/plain;")
        if front.challenges
        else (
            f"proxy_pass http://{_in_url(front.challenged)}:80;",
            "proxy_set_header Host $host;",
            'proxy_set_header Cookie "";',
            "proxy_connect_timeout 5s;",
            "proxy_read_timeout 10s;",
        )
    )
    inside = "".join(f"        {line}\n" for line in ("limit_except GET { deny all; }", *lines))
    return f"    location ^~ /.well-known/acme-challenge/ {{\n{inside}    }}\n"


#: Networks whose addresses are not routed on the Internet (RFC 1918, 4193, 3927, 4291): this machine, its containers,
#: the machines beside it.
INSIDE = "".join(
    f"    {network} 1;\n"
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1", "fc00::/7", "fe80::/10"),
    )
)
ALL_HERE = "# All files are on this machine.\n"
#: Not `error_page 404`, which would also apply to a client that requests such an address directly.
MISSING = """\
set $answer_hsts $upstream_http_strict_transport_security;
set $answer_referrer_policy $upstream_http_referrer_policy;
set $answer_request_id $upstream_http_x_request_id;
try_files $uri @elsewhere;
"""
#: The other machines are tried in turn. The headers that the site set for the file (its name and type) are kept, and it
#: gets those of a file that is here (nginx/site.conf).
ELSEWHERE = """\
location @elsewhere {
    internal;
    proxy_pass http://peers;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_next_upstream error timeout http_404;
    proxy_next_upstream_timeout 20s;
    proxy_connect_timeout 1s;
    proxy_read_timeout 5s;
    proxy_max_temp_file_size 0;
    proxy_hide_header Content-Type;
    add_header Strict-Transport-Security $answer_hsts always;
    add_header Referrer-Policy $answer_referrer_policy always;
    add_header X-Request-ID $answer_request_id always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "default-src 'none'; frame-ancestors 'none'; sandbox" always;
}
"""


#: Load balancers ask by address, and so does whoever is on the machine; nobody else gets an answer. The site answers
#: before it checks the host's name.
PROBED = """\
location ~ ^/(healthz|readyz)$ {
    if ($may_probe = 0) {
        return 444;
    }
    access_log off;
    include /etc/nginx/site/proxy.conf;
}
"""


#: For those inside, by the site's name or by address: the kit's metrics. Nobody else learns that there are any.
MEASURED = """\
location = /metrics {
    if ($is_inside = 0) {
        return 404;
    }
    access_log off;
    include /etc/nginx/site/proxy.conf;
}
"""


def peers(front: Front) -> str:
    """The server for the nginx of other machines, on an unpublished port, with the files that workers wrote here."""
    if not front.peers:
        return ""
    return _asked([f"{front.peers}:{PEERS_PORT} resolve max_fails=0"]) + _peer([f"listen {PEERS_PORT};"], front)


def _asked(servers: Iterable[str]) -> str:
    return "upstream peers {\n    zone peers 64k;\n" + "".join(f"    server {each};\n" for each in servers) + "}\n"


def _peer(lines: Iterable[str], front: Front) -> str:
    uploads = f"    location {front.media_url} {{\n        alias $media_root/;\n    }}\n" if front.media_url else ""
    return (
        "server {\n" + "".join(f"    {line}\n" for line in lines) + "    access_log off;\n"
        f"    location /protected/ {{\n        alias $protected_root/;\n    }}\n{uploads}"
        "    location / {\n        return 404;\n    }\n}\n"
    )


# --- Uploads ---

#: Types that a browser shows without running anything. All others are downloaded: of HTML, SVG, XML and scripts that
#: somebody has uploaded, a browser would run what is inside, with the rights of the visitor.
SHOWN = "~^(image/(png|jpeg|gif|webp|avif|bmp|x-ms-bmp|x-icon|tiff)|audio/[^;]+|video/[^;]+)(;|$)"
#: For the http block. An empty value adds no header.
MEDIA_TYPES = f"""\
map $sent_http_content_type $media_disposition {{
    default attachment;
    "{SHOWN}" "";
}}
map $sent_http_content_type $media_policy {{
    default "default-src 'none'; sandbox";
    "{SHOWN}" "";
}}
"""
_MEDIA_HEADERS = """\
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Disposition $media_disposition;
    add_header Content-Security-Policy $media_policy;
    add_header Cache-Control "public, max-age=60";
"""


def media(front: Front, *, elsewhere: bool) -> str:
    """The locations of uploads, for the site's server; ``elsewhere`` if another machine may have the file."""
    if not front.media_url:
        return ""
    missing = "@media_elsewhere" if elsewhere else "=404"
    return (
        # `^~`: no location by a regular expression takes these addresses over.
        f"location ^~ {front.media_url} {{\n"
        "    location ~ /$ {\n        return 404;\n    }\n"  # no directory listing
        "    location ~ /\\. {\n        return 404;\n    }\n"
        "    alias $media_root/;\n"
        f"    try_files $uri {missing};\n{_MEDIA_HEADERS}}}\n" + (MEDIA_ELSEWHERE if elsewhere else "")
    )


#: A visitor's cookies are for the site, not for a connection between machines.
MEDIA_ELSEWHERE = f"""\
location @media_elsewhere {{
    internal;
    proxy_pass http://peers;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Cookie "";
    proxy_set_header Authorization "";
    proxy_next_upstream error timeout http_404;
    proxy_next_upstream_timeout 20s;
    proxy_connect_timeout 1s;
    proxy_read_timeout 5s;
    proxy_max_temp_file_size 0;
{_MEDIA_HEADERS}}}
"""


def _media_root(front: Front) -> str:
    return f"map $host $media_root {{ default {front.media_root}; }}\n{MEDIA_TYPES}" if front.media_url else ""


def _bodies(front: Front) -> str:
    return f"client_max_body_size {front.upload_megabytes}m;\n"


def sizes(upload_megabytes: int) -> dict[str, str]:
    """For nginx in a container: the folder in memory for bodies that arrive, and the limit of memory, which counts it.

    The folder is full before the limit is reached: an upload is refused then, and nginx is not killed.
    """
    folder = max(128, 2 * upload_megabytes)
    return {"NGINX_TMP": f"{folder}m", "NGINX_MEMORY": f"{folder + 192}m"}


@dataclass(frozen=True)
class Here:
    """The nginx of a plain host."""

    front: Front
    #: The socket of the serving release.
    socket: str
    #: The access log.
    log: str
    #: Whether this host serves the site; otherwise it only offers files to the hosts that do.
    web: bool
    #: The addresses of the other hosts that may have a file, and of those that may request ours.
    others: Sequence[str]
    askers: Sequence[str]
    #: Whether the system supports IPv6.
    ipv6: bool
    #: The name under which the hosts of a site ask each other for files, on a port that its other sites have too.
    peers_name: str = "peers"
    #: The encrypted certificate that they may ask for; empty without.
    handover: str = ""


def host_files(here: Here) -> dict[str, str]:
    """The rendered files for a plain host, by name.

    Debian 12 has nginx 1.22, where HTTP/2 is a parameter of `listen`, and names are resolved only at the start.
    """
    front, both = here.front, (["", "[::]:"] if here.ipv6 else [""])
    peer = ""
    if here.askers:
        listen = [f"listen {host}{PEERS_PORT};" for host in both]
        askers = [f"allow {address};" for address in here.askers]
        # On hosts, uploads are on the one that serves them, or in a folder that all share.
        lines = [*listen, f"server_name {here.peers_name};", *askers, "deny all;"]
        if here.handover:
            lines.append(f"location = /handover {{ alias {here.handover}; default_type application/octet-stream; }}")
        peer = _peer(lines, replace(front, media_url=""))
    if not here.web:
        return {"http.conf": f"map $host $protected_root {{ default {front.protected_root}; }}\n{peer}"}
    names = f"server_name {' '.join(front.hosts)};\n"
    plain = [f"listen {host}80" for host in both]
    tls = [f"listen {host}443 ssl" for host in both]
    elsewhere = ELSEWHERE.replace("proxy_http", f"proxy_set_header Host {here.peers_name};\n    proxy_http", 1)
    asked = _asked(f"{_in_url(address)}:{PEERS_PORT} max_fails=0" for address in here.others) if here.others else ""
    listen = [f"{line} http2;\n" for line in tls] if front.tls else [f"{line};\n" for line in plain]
    server = "".join(listen) + (front.shown if front.tls else "")
    unknown = "".join(f"{line} default_server;\n" for line in plain) + "server_name _;\n"
    if front.tls:
        # Who is trusted asks by address, so without a name: there must be a certificate to show.
        shown = front.shown if front.trusted else "ssl_reject_handshake on;\n"
        unknown += "".join(f"{line} http2 default_server;\n" for line in tls) + shown
    return {
        "http.conf": _http(front, f"    server unix:{here.socket} max_fails=0;\n", here.log, "; ".join(plain) + ";")
        + asked
        + peer,
        # A link among the static files, made by the deploy user, must not give access to files of other users.
        "server.conf": f"{server}{names}{_bodies(front)}disable_symlinks if_not_owner;\n"
        f"{MEASURED if front.metrics else ''}{elsewhere if here.others else ''}{media(front, elsewhere=False)}",
        "missing.conf": MISSING if here.others else ALL_HERE,
        "local.conf": front.own,
        "unknown.conf": unknown + PROBED + (MEASURED if front.metrics else ""),
    }


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def serving(text: str) -> tuple[str, ...]:
    """The replicas to which an `http.conf` sends requests."""
    return tuple(re.findall(r"^    server ([\w.-]+):8000(?!.* down;)", text, re.MULTILINE))


def complaint(text: str) -> str:
    """The error that `nginx -t` reports, with file names as in the work tree."""
    found = re.search(r"\[emerg\] (?:\d+#\d+: )?(.+)", text)
    return nginx_line(found[1] if found else text.strip()).replace("/etc/nginx/site/", "nginx/")
