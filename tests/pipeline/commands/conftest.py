"""Fixtures of the tests of the command."""

from __future__ import annotations

from tests.pipeline.commands.calling import fresh_settings as fresh_settings
from tests.pipeline.commands.stories import stored_url as stored_url
