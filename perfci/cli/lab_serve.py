"""`perfci lab serve`: the lab's calendar as a web page."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from perfci.cli.access import settings_for, state_folder
from perfci.cli.output import Json, errors_reported, print_json


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: web.host, loopback.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="TCP port to listen on; 0: a free one. Default: web.port."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the lab's calendar as a web page with a JSON API.

    Everybody who can reach the page can read it. To reserve, extend and give back nodes, people need a token:
    `perfci lab token add`. The server speaks plain HTTP: before it listens anywhere but on loopback, put a
    reverse proxy with TLS in front. SIGTERM or Ctrl-C ends it with exit code 0.
    """
    from perfci.database.engine import open_database
    from perfci.lab.reservations.service import open_reservations
    from perfci.lab.reservations.tokens import Tokens
    from perfci.lab.web import server
    from perfci.lab.web.app import make_app
    from perfci.logs import FILE, controller_log
    from perfci.runs.tick.clouds import cloud_check

    with errors_reported(as_json=as_json):
        settings = settings_for()
        public = urlsplit(settings.web.public_url or "")
        host = host or settings.web.host
        logs = state_folder().root / "logs"
        listening = server.listen(host, settings.web.port if port is None else port)
        names = {*server.LOOPBACK, *filter(None, (public.hostname,))}
        app = make_app(
            open_reservations(settings, check_cloud=cloud_check(settings)),
            Tokens(open_database(settings)),
            root=public.path.rstrip("/"),
            names=names if host in server.LOOPBACK else (),
            log=logs / FILE,
        )
        at = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = settings.web.public_url or f"http://{shown}:{at}/"
        if as_json:
            print_json({"lab": settings.lab, "url": url, "host": host, "port": at})
        else:
            sys.stdout.write(f"lab {settings.lab}: {url}\n")
            if host not in server.LOOPBACK and public.scheme != "https":
                sys.stderr.write(
                    "tokens go over the network unencrypted: put a reverse proxy with TLS in front\n"
                )
        sys.stdout.flush()
        with controller_log(logs):
            server.serve(app, listening)
