"""Train the setting of a trial once more, for keeps."""
