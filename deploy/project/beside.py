"""The site in an nginx that serves others too: everything that is not in a server of ours must leave those alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SITE = "/etc/nginx/site"
#: Directives of ours in nginx's http block that a server may have as well.
_MOVED = re.compile(r"^(?:access_log|set_real_ip_from|real_ip_header|real_ip_recursive|limit_req_status) .*;\n", re.M)
#: From the directives for every server to the end of the server for unknown names, which is the others' affair here.
_DEFAULTS, _UNKNOWN = "# --- For every server below.\n", "# Close the connection"
_OWN = f"server {{\n    include {_SITE}/server.conf;"


def beside(texts: Mapping[str, str], name: str) -> dict[str, str]:
    """The files of `proxy.host_files` and the project's own, changed so that nginx's http block may have other sites.

    Our directives for all servers are in `defaults.conf`, which only ours include; our names (upstreams, zones, the
    format of the log) bear the project's ``name``; and no server of ours is the default one.
    """
    own = name.replace("-", "_")
    found = {file: _renamed(text, own) for file, text in texts.items() if file not in ("nginx.conf", "unknown.conf")}
    if "site.conf" not in found:
        return found
    before, _, rest = found["site.conf"].partition(_DEFAULTS)
    defaults = rest.partition(_UNKNOWN)[0]
    servers = _OWN + rest.partition(_OWN)[2]
    moved = [each for text in (found["http.conf"], before) for each in _MOVED.findall(text)]
    return {
        **found,
        "http.conf": _MOVED.sub("", found["http.conf"]),
        "site.conf": _MOVED.sub("", before) + servers,
        "defaults.conf": "".join(moved) + defaults,
        "server.conf": f"{found['server.conf']}include {_SITE}/defaults.conf;\n",
    }


def _renamed(text: str, own: str) -> str:
    for old, new in (
        (r"(upstream|zone) (app|peers)\b", rf"\1 {own}_\2"),
        (r"http://(app|peers);", rf"http://{own}_\1;"),
        (r"\bzone=login\b", f"zone={own}_login"),
        (r"log_format json\b", f"log_format {own}_json"),
        (r"^(access_log \S+) json\b", rf"\1 {own}_json"),
        (r"shared:tls:", f"shared:{own}_tls:"),
    ):
        text = re.sub(old, new, text, flags=re.MULTILINE)
    return text
