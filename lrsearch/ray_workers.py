"""Workers as actors of a Ray cluster, which places them, restarts them and forwards their logs."""
