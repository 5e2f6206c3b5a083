"""A job's events in a terminal, live or again at their own pace; and the desk for dead letters."""
