"""A client for a test to kill: `python -m tests.hosts.client DO ARGUMENTS`."""

import sys
import time
from pathlib import Path

from deploy.hosts.environment.model import Host
from deploy.hosts.ssh import known_hosts
from deploy.hosts.ssh.channel import hold_lock, run_script
from deploy.hosts.ssh.connect import connect

do, port, identity, known, *words = sys.argv[1:]
host = Host.model_construct(
    None, name="web1", roles=("web",), address="127.0.0.1", port=int(port), user="root", identity=Path(identity)
)
connection = connect(host, known_hosts.parse(Path(known).read_text(), "production"))
if do == "run":
    run_script(connection, Path(words[0]).read_text())
else:
    with hold_lock(connection, *words):
        print("held", flush=True)
        time.sleep(600)
