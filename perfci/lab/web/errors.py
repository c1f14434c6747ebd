"""What can be in the way of the web page, and of those who use it."""

from __future__ import annotations

from perfci.errors import LabError, UsageError


class PortTaken(LabError):
    """Another program listens on the address of the web page."""

    template = "{host} port {port} is taken: another program listens there"
    help = (
        "End that program (`ss -ltnp` shows it), or choose another port: --port, or web.port in the settings."
    )


class AddressUnusable(UsageError):
    """perfci can't listen on that address: it is not this machine's, or the port needs root."""

    template = "can't listen on {host} port {port}: {reason}"
    help = "Correct --host and --port, or web.host and web.port in the settings."


class SignInNeeded(UsageError):
    """An order came without a token."""

    template = "this order needs a token"
    help = "Make one with `perfci lab token add`; send it as `Authorization: Bearer TOKEN`, or sign in."
    exit_code = 4


class RequestForged(UsageError):
    """An order did not come from a page of this lab, or came from one loaded before a sign-in."""

    template = "the order did not come from a page of this lab: nothing was done"
    help = "Load the page again and repeat the order. A reverse proxy must pass on the header Host."


class RequestInvalid(UsageError):
    """A request to the API or the values of a form are invalid."""

    template = "{problems}"
    help = "`/api/openapi.json` describes every request."


class RequestTooLarge(UsageError):
    """A request is larger than any order needs, or arrives too slowly."""

    template = "the request is too large or too slow: at most {most} bytes in {seconds} seconds"
    help = "A reason may have up to 500 characters."


class TooManyRequests(LabError):
    """One address sends more requests than a person or a sensible program does."""

    template = "too many requests from this address"
    help = "Try again in {seconds} s."


class HostUnknown(UsageError):
    """A request used a host name that is not the page's."""

    template = "this lab's page is not called {host!r}"
    help = "Set web.public_url in the settings to the address that people type."


class PageUnknown(UsageError):
    """No page or API of the lab has this address."""

    template = "there is nothing at {path}"
    help = "The calendar links to every page; `/api/openapi.json` lists the API."
