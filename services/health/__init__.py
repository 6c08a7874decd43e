"""Health of the whole system: the root page, readiness, and the probes behind them."""
