"""server: the running web server, for nodes that add routes or send messages."""

from ..server import PromptServer

__all__ = ["PromptServer"]
