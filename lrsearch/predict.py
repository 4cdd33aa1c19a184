"""Look at what the best weights make of an image."""
