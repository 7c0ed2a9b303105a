"""Delivery control: whether a lead may be sent now. Pause, circuit breaker, rate and concurrency limits."""
