"""What an operator watches of the worker processes."""

from prometheus_client import Counter, Gauge

PUBLISHED = Counter("tmi_outbox_published_total", "Events handed to every publisher.", ["event_type"])
BACKLOG_ROWS = Gauge("tmi_outbox_backlog_rows", "Events that wait to be published.")
BACKLOG_AGE = Gauge("tmi_outbox_backlog_age_seconds", "Age of the oldest event that waits; 0 when none does.")
PRUNED = Counter("tmi_pruned_rows_total", "Rows deleted because their retention is over.", ["kind"])
LAST_SUCCESS = Gauge(
    "tmi_worker_last_success_timestamp_seconds", "When work was last done without an error, by any worker.", ["task"]
)
