"""From outcomes to lessons."""
