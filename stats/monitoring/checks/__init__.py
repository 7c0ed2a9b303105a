"""All checks of the gateway. `registry` lists them; `stats.text.checks` has the sentences about their results."""
