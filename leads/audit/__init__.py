"""The audit log: recording events, append-only triggers, the hash chain and its verification."""
