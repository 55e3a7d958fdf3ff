"""Which requests are answered: those of pages that this server itself has sent."""

import ipaddress
import logging
from urllib.parse import urlsplit

from aiohttp import web

log = logging.getLogger(__name__)
LARGEST_UPLOAD = 100 * 2**20  # bytes, ComfyUI's default


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


@web.middleware
async def guard(request: web.Request, handler):
    """Refuses with 403 what another site's page asks for.

    Any site's page in the user's browser can send requests to this address; the browser then names the site in Origin.
    And a foreign name that resolves to 127.0.0.1 would make its page same-origin: so who is reached over loopback must
    be called by a loopback name.
    """
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return _refused(request, f"Origin {origin} is not {host}")
    if is_loopback(request.transport.get_extra_info("sockname")[0]) and not is_loopback(urlsplit(f"//{host}").hostname):
        return _refused(request, f"Host {host} is not a name of this machine")
    response = await handler(request)
    if not response.prepared:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _refused(request: web.Request, reason: str) -> web.Response:
    log.warning("Refused %s %s: %s", request.method, request.path, reason)
    return web.Response(status=403, text=f"Refused: {reason}\n")
