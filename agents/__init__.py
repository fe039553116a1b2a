"""Who decides: the stages of the incident loop."""
