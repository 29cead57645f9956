"""The site as one of several in an nginx: everything that is not in a server of ours must leave the others alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SITE = "/etc/nginx/site"
#: Directives of ours in nginx's http block that a server may have as well.
_MOVED = re.compile(
    r"^(?:access_log|set_real_ip_from|real_ip_header|real_ip_recursive|limit_req_status|limit_conn_status) .*;\n", re.M
)
#: From the directives for every server to the end of the server for unknown names.
_DEFAULTS, _UNKNOWN = "# --- For every server below.\n", "# Close the connection"
_OWN = f"server {{\n    include {_SITE}/server.conf;"
_HTTP = f"include {_SITE}/http.conf;\n"
#: Of the server that redirects to HTTPS: its first line that is no name.
_REDIRECT = re.compile(r"^    (?=return 308 |location / \{ return 308 )", re.M)
#: Variables of ours: nginx would take a second definition of a name without a word.
_VARIABLE = re.compile(r"^(?:map|geo) \S+ \$(\w+) \{", re.M)
_ZONE = re.compile(r"\bzone=(\w+):")


def beside(texts: Mapping[str, str], name: str, *, alone: bool) -> dict[str, str]:
    """The files of `proxy.host_files` and the project's own, changed so that nginx's http block may have other sites.

    They are for the folder /etc/nginx/NAME. Our directives for all servers are in `defaults.conf`, which only ours
    include; our names (upstreams, zones, variables, the format of the log) bear the site's ``name``. ``alone``: nginx
    serves sites of ours only; then one of them answers unknown names, else the default server is the others' affair.
    """
    include = f"    include {_SITE}/defaults.conf;\n"
    found = {file: text for file, text in texts.items() if alone or file != "unknown.conf"}
    if "site.conf" in found:
        before, _, rest = found["site.conf"].partition(_DEFAULTS)
        defaults, _, servers = rest.partition(_UNKNOWN)
        unknown, _, servers = servers.partition(_OWN)
        # The first server is the default one of its port: two that both say so would be an error.
        first = f"{_UNKNOWN}{unknown}{_HTTP}" if alone else _HTTP
        moved = [each for text in (found["http.conf"], before) for each in _MOVED.findall(text)]
        redirect = _REDIRECT.sub(f"{include}    ", found["http.conf"])
        found |= {
            "http.conf": _MOVED.sub("", redirect),
            "site.conf": _MOVED.sub("", before).replace(_HTTP, first) + _OWN + servers,
            "defaults.conf": "".join(moved) + defaults,
            "server.conf": f"{found['server.conf']}include {_SITE}/defaults.conf;\n",
        }
    if "unknown.conf" in found:
        text = (
            found["unknown.conf"].replace(" default_server", "").replace("server_name _;", "server_name app.invalid;")
        )
        found["unknown.conf"] = f"{text}include {_SITE}/defaults.conf;\n"
    return _renamed(found, name)


def _renamed(texts: Mapping[str, str], name: str) -> dict[str, str]:
    own = name.replace("-", "_")
    variables, zones = (
        sorted({each for text in texts.values() for each in pattern.findall(text)}) for pattern in (_VARIABLE, _ZONE)
    )
    pairs = [
        (r"(upstream|zone) (app|peers)\b", rf"\1 {own}_\2"),
        (r"http://(app|peers);", rf"http://{own}_\1;"),
        *((rf"\b(zone=|limit_conn ){zone}\b", rf"\1{own}_{zone}") for zone in zones),
        (r"log_format json\b", f"log_format {own}_json"),
        (r"^(\s*access_log \S+) json\b", rf"\1 {own}_json"),
        (r"shared:tls:", f"shared:{own}_tls:"),
        (r"\bapp\.invalid;", f"{own}.invalid;"),
        (rf"{_SITE}/", f"/etc/nginx/{name}/"),
        *((rf"\$(\{{?){variable}\b", rf"$\1{own}_{variable}") for variable in variables),
    ]
    found = dict(texts)
    for old, new in pairs:
        found = {file: re.sub(old, new, text, flags=re.MULTILINE) for file, text in found.items()}
    return found
