"""Files whatever they hold: read bounded and by position, written beside their target and renamed over it."""
