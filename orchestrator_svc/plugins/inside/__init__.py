"""What a plugin imports: ``from mesh_plugin import action, Answer, Failure``. Standard library only.

It is read inside the plugin's cell, under the name ``mesh_plugin``.
"""

from .api import Answer, Call, Failure, action

__all__ = ["Answer", "Call", "Failure", "action"]
