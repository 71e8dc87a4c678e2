"""Many trials: study file, ledger, sweep, engines, tracking."""
