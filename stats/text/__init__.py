"""Every sentence about a lead, an event, an incident or delivery control, made from stored codes and parameters."""
