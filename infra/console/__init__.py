"""A job's events in a terminal: live as they come, or again at their own pace."""
